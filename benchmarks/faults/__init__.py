"""Break runs on purpose and check that nothing is lost: `python -m benchmarks.faults`.

Every fault is caused in a real command (train.py, dataset_tool.py, generate.py, calc_metrics.py),
which works on a tiny data set. Afterwards the same command runs again without the fault. A point is
recovered if the first command ended as documented, no file with a final name is damaged, the second
command goes on from the newest checkpoint, and its files equal those of an undisturbed command bit
for bit. Else the point is lost, and the exit code is 1.

- `commands.py` starts a command in a process that breaks itself.
- `injections.py` holds the ways to break it.
- `training_faults.py` and `writing_faults.py` hold the faults, which `table.py` lists.

A kill leaves what was written, so nothing waits for the disk here (`os.fsync` does nothing). The
loss of power, after which a disk may lack unsynced data, is not simulated.
"""
