"""The views that the tile test compares."""

from metrics.measures.tile_exact import tile_px, tile_views


def test_tile_views_are_odd_and_not_square():
    for resolution in (16, 32, 64, 256):
        views = tile_views(resolution)
        assert list(views) == ["whole", "window", "extrapolated"]
        for view in views.values():
            assert view.height % 2 == view.width % 2 == 1 and view.height != view.width
            assert view.width % tile_px(view) != 0 and tile_px(view) < view.width
        assert min(views["extrapolated"].box) < 0 and max(views["extrapolated"].box) > 1
        assert 0 < min(views["window"].box) and max(views["window"].box) < 1
