"""A thread beside the work does not end without a word."""

import threading

from workers.processes.background import begin, begin_repeating


def test_an_error_that_ends_a_thread_is_logged(caplog):
    def fail():
        raise RuntimeError("lost")

    begin("watching", fail).join()
    assert "'watching' ended by an error" in caplog.text
    assert "RuntimeError: lost" in caplog.text


def test_one_that_repeats_looks_again_after_an_error(caplog):
    done, looks = threading.Event(), []

    def look():
        looks.append(1)
        if len(looks) == 3:
            done.set()
        else:
            raise OSError(116, "Stale file handle")

    begin_repeating("watching", done, 0.01, look).join(60)
    assert len(looks) == 3
    assert caplog.text.count("Stale file handle") == 2
