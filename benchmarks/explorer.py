"""What the explorer takes: the first picture, tiles a second, and load by many clients.

    python -m benchmarks.explorer --network runs/flowers64 --json FILE

explore.py runs as a process of its own, and this process asks it over HTTP. `first_s` is the time
from a new prompt to the preview of a screen, `screen_s` to all of its tiles, with six connections
as a browser has. Each client of the load test asks for tiles that nobody has asked for, one after
the other, and asks again a second after an answer 503. `cpu_s` is the processor time of the server.
Panning is measured by `benchmarks.explorer_panning` in Chromium; where that is not installed, a
line says so.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import click
import torch

from benchmarks import explorer_panning
from benchmarks.harness import RECORD, machine, numbers
from dnnlib.console import report_user_errors
from dnnlib.files import write_json
from dnnlib.ownership import refuse_foreign

PROMPTS = ["a red flower with round petals", "a yellow flower", "a violet flower", "a white flower"]
SCREEN = (5, 4)  # tiles of a screen of 1280 x 1024 pixels
CONNECTIONS = 6  # of a browser to one server


class Server:
    """explore.py as a process, and requests to it."""

    def __init__(self, network: str) -> None:
        words = [sys.executable, "explore.py", "--network", network, "--port", "0"]
        self.process = subprocess.Popen(
            [*words, "--device", "cpu"], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.address = urlsplit(line.partition("Open ")[2].strip()).netloc

    def ask(self, path: str, data: dict | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.address, timeout=600)
        body = None if data is None else json.dumps(data)
        kind = {"Content-Type": "application/json"}
        connection.request("GET" if data is None else "POST", path, body, kind)
        answer = connection.getresponse()
        found = answer.status, answer.read()
        connection.close()
        return found

    def json(self, path: str, data: dict | None = None) -> dict:
        status, body = self.ask(path, data)
        assert status == 200, body
        return json.loads(body)

    def status(self) -> tuple[float, float]:
        """Processor seconds so far, and resident memory in MiB. Linux only."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        ticks, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return (int(fields[11]) + int(fields[12])) / ticks, pages * page_bytes / 2**20


def first_pictures(server: Server, state: dict) -> dict:
    """Medians over prompts that the server has not seen; the first one warms it up."""
    rows = []
    for prompt in PROMPTS:
        before, started = server.status()[0], time.perf_counter()
        picture = server.json("/pictures", state | {"prompt": prompt})["picture"]
        server.ask(f"/preview/{picture}.png?window=-0.75,-0.5,1.75,1.5&size=286x229")
        first = time.perf_counter() - started
        places = [f"{x}/{y}" for y in range(SCREEN[1]) for x in range(SCREEN[0])]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(server.ask, [f"/tile/{picture}/1/{place}.png" for place in places]))
        rows.append((first, time.perf_counter() - started, server.status()[0] - before))
    first, screen, cpu = (round(statistics.median(x), 3) for x in zip(*rows[1:], strict=True))
    return {"case": "new prompt", "first_s": first, "screen_s": screen, "cpu_s": cpu}


def load(server: Server, picture: str, clients: int, seconds: float, case: str) -> dict:
    """Tiles that many clients get in a time, and how long each waits for one."""
    end, waits, codes = time.perf_counter() + seconds, [], Counter[int]()
    lock = threading.Lock()

    def client(number: int) -> None:
        tile = 0
        while time.perf_counter() < end:
            started = time.perf_counter()
            zoom = 6  # a row of tiles for each client
            code, _ = server.ask(f"/tile/{picture}/{zoom}/{tile}/{number}.png")
            with lock:
                codes[code] += 1
                waits.extend([time.perf_counter() - started] if code == 200 else [])
            tile += code == 200
            time.sleep(0 if code == 200 else 1)

    cpu, started = server.status()[0], time.perf_counter()
    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - started
    cpu = server.status()[0] - cpu
    return {
        "case": case,
        "clients": clients,
        "tiles": codes[200],
        "busy": codes[503],
        "tiles_per_s": round(codes[200] / spent, 2),
        "tiles_per_cpu_s": round(codes[200] / cpu, 2) if cpu else None,
        "median_wait_s": round(statistics.median(waits), 3) if waits else None,
        "longest_wait_s": round(max(waits), 3) if waits else None,
        "memory_mib": round(server.status()[1]),
    }


@click.command()
@click.option("--network", required=True, metavar="PATH", help="Snapshot or run folder.")
@click.option("--clients", default="1,10,100", show_default=True, metavar="N,N")
@click.option("--seconds", default=8.0, show_default=True, help="Time of one load test.")
@click.option("--pan-seconds", default=5.0, show_default=True, help="Time of dragging the map.")
@click.option("--json", "path", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the record there.")  # fmt: skip
@click.option("--note", default="", metavar="TEXT", help="About the machine, for the record.")
@report_user_errors
def main(
    network: str, clients: str, seconds: float, pan_seconds: float, path: Path | None, note: str
) -> None:
    """Measure the explorer."""
    if path:
        refuse_foreign(path, RECORD)
    server, rows = Server(network), []
    try:
        state = {"network": server.json("/options")["networks"][0]}
        rows.append(first_pictures(server, state))
        if lack := explorer_panning.missing():
            click.echo(f"panning is left out: {lack}")
        else:
            address = f"http://{server.address}/"
            rows.append(explorer_panning.panning(address, PROMPTS[0], pan_seconds))
        for change in ({}, {"rotate": 30.0}):
            case = "tiles, rotated" if change else "tiles"
            for number in numbers(clients) if not change else [1]:
                about = state | change | {"prompt": PROMPTS[0], "seed": number}
                picture = server.json("/pictures", about)["picture"]
                rows.append(load(server, picture, number, seconds, case))
    finally:
        server.process.kill()
    for row in rows:
        click.echo(row)
    if path:
        record = {
            "benchmark": "explorer",
            "date": datetime.date.today().isoformat(),
            "note": note,
            "rows": rows,
            "machine": machine(torch.device("cpu")),
        }
        write_json(path, record, ours=RECORD)


if __name__ == "__main__":
    main()
