"""Where a routed lead's time and WAL go, to explain a goal that is missed: perf on the sessions of the
CPU-bound cell and of a COPY, and the WAL of both by kind of record."""

import contextlib
import math
import os
import shutil
import signal
import subprocess
import time

from server import MeasureError, checked


def profile(bench):
    """Prints for plain and routed the time per library, for leadroute its functions, and the WAL."""
    if shutil.which("perf") is None:
        raise MeasureError("perf is not installed (Debian: linux-perf)")
    ten = bench.ten_pools()
    ten.control.run("CREATE EXTENSION IF NOT EXISTS pg_walinspect")
    path = ten.write_leads(bench.options.rows)
    for variant in ("plain", "routed"):
        recording = os.path.join(bench.server.directory, f"perf.{variant}")
        tps, wal = sampled_load(bench, ten, variant, recording)
        show(f"{variant}, one lead per transaction: {tps:,.0f} leads/s, {1e6 * os.cpu_count() / tps:.1f} us of CPU "
             "a lead, pgbench included", recording, wal)
        seconds, wal = sampled_copy(bench, ten, variant, path, recording)
        show(f"{variant}, COPY: {1e6 * seconds / bench.options.rows:.2f} us a lead", recording, wal)


@contextlib.contextmanager
def sampling(pids, recording):
    """Samples sessions by the clock: virtual machines have no hardware counters."""
    perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-p", ",".join(pids),
                             "-o", recording], stdin=subprocess.DEVNULL)
    time.sleep(0.3)
    try:
        yield
    finally:
        perf.send_signal(signal.SIGINT)
        perf.wait()


def sampled_load(bench, tables, variant, recording):
    seconds = 4 * bench.options.seconds
    tables.empty(variant)
    load = tables.server.load(tables.database, variant, clients=8, rules=tables.rules, sync="off",
                              amount=["-T", math.ceil(bench.options.warm_up + seconds + 2)])
    try:
        time.sleep(bench.options.warm_up)
        mark = ("SELECT extract(epoch FROM clock_timestamp()), last_value, pg_current_wal_insert_lsn() "
                f"FROM {variant}.leads_id_seq")
        pids = [row[0] for row in tables.control.run(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench'")]
        with sampling(pids, recording):
            start = tables.control.run(mark)[0]
            time.sleep(seconds)
            end = tables.control.run(mark)[0]
        load.finish()
    finally:
        load.kill()
    count = int(end[1]) - int(start[1])
    return count / (float(end[0]) - float(start[0])), wal_by_record(tables, start[2], end[2], count)


def sampled_copy(bench, tables, variant, path, recording):
    tables.empty(variant)
    session = tables.session()
    session.run(tables.insert_one(variant))
    start = session.value("SELECT pg_current_wal_insert_lsn()")
    with sampling([session.value("SELECT pg_backend_pid()")], recording):
        seconds = session.timed(tables.copy_statement(variant, path))
    end = session.value("SELECT pg_current_wal_insert_lsn()")
    session.close()
    return seconds, wal_by_record(tables, start, end, bench.options.rows)


def wal_by_record(tables, start, end, count):
    rows = tables.control.run(f"""SELECT "resource_manager/record_type", combined_size / {count}.0
        FROM pg_get_wal_stats('{start}', '{end}', true) WHERE combined_size > {count}
        ORDER BY combined_size DESC LIMIT 12""")
    return [f"{float(size):8.1f} bytes  {kind}" for kind, size in rows]


def show(title, recording, wal):
    print(f"\n== {title}")
    print("-- WAL a lead", *wal, sep="\n")
    shares("-- time by library", recording, "dso")
    shares("-- time in leadroute", recording, "symbol", "--dsos", "leadroute.so")
    shares("-- time in all (addresses where a library has no symbols)", recording, "dso,symbol")


def shares(title, recording, sort, *options):
    output = checked(["perf", "report", "--stdio", "-q", "--percentage", "absolute", "-i", recording,
                      "--fields", "overhead," + sort, *options])
    lines = [line.rstrip(" -") for line in output.splitlines() if line.strip() and not line.startswith("#")]
    if lines:
        print(title, *lines[:25], sep="\n")
