"""What is measured. Each item is a function of a Bench; it writes raw figures, goals.py judges them.

Round 0 of an item warms the machine up (files, WAL, caches) and counts for nothing. Within a round
each variant runs once; the order turns from round to round, so that none is always first.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile

from claims import claim
from listener import Listener
from rules import rules
from sla import sla
from server import HERE, TOP, MeasureError, rate
from tables import Tables


def turned(cells, number):
    start = number % len(cells)
    return cells[start:] + cells[:start]


class Bench:
    def __init__(self, server, results, options):
        self.server = server
        self.results = results
        self.options = options
        self.made = {}

    def tables(self, database, *arguments, **size):
        if database not in self.made:
            self.made[database] = Tables(self.server, database, *arguments, **size)
        return self.made[database]

    def ten_pools(self):
        return self.tables("ten_pools", ["plain", "peer", "routed"])

    def rounds(self, item):
        """Numbers of the rounds, the one to warm up first; tells how far the item is."""
        for number in range(self.options.rounds + 1):
            print(f"{item}: round {number} of {self.options.rounds}", flush=True)
            yield number

    def tps(self, tables, variant, clients, sync, events="worker"):
        """Leads per second of one cell. The variant's tables are as the caller prepared them."""
        options = self.options
        load = self.server.load(tables.database, variant, clients=clients, rules=tables.rules, sync=sync, events=events,
                                amount=["-T", math.ceil(options.warm_up + options.seconds)], script=tables.script)
        try:
            tps = rate(tables.control, load, variant, options.warm_up, options.seconds)
            load.finish()
        finally:
            load.kill()
        tables.check(variant)
        return tps


def single(bench):
    """Single-row INSERT: three columns of clients and durability, and one hot pool at 32 clients. Events
    are off, as the PL/pgSQL trigger has none; what they add is another item."""
    ten = bench.ten_pools()
    hot = bench.tables("one_pool", ["peer", "routed"], pools=1, reps=10)
    columns = [
        [("on/1", ten, variant, 1, "on") for variant in ("plain", "peer", "routed")],
        [("on/32", ten, variant, 32, "on") for variant in ("plain", "peer", "routed")]
        + [("hot/32", hot, variant, 32, "on") for variant in ("peer", "routed")],
        [("off/8", ten, variant, 8, "off") for variant in ("plain", "peer", "routed")],
    ]
    for number in bench.rounds("single"):
        for column in columns:
            for cell, tables, variant, clients, sync in turned(column, number):
                tables.empty(variant)
                tps = bench.tps(tables, variant, clients, sync, events="off")
                bench.results.add("single", number, cell, variant, tps=tps)
    ten.verify()
    hot.verify()


def copy(bench):
    """COPY of leads with 10 and with 100 rules, against the floor: COPY of the same leads into a
    plain table, and COPY of the assignment rows they got into a table like leadroute's."""
    variants = ["routed", "plain", "record"]
    cases = []
    for rules in (10, 100):
        tables = bench.tables(f"copy_{rules}", ["plain", "routed"], rules=rules)
        path = tables.write_leads(bench.options.rows)
        tables.empty("routed")
        tables.copy("routed", path)
        cases.append((tables, path, tables.write_record()))
    for number in bench.rounds("copy"):
        for tables, path, record_path in cases:
            for variant in turned(variants, number):
                tables.empty(variant)
                seconds, wal = tables.copy(variant, record_path if variant == "record" else path)
                bench.results.add("copy", number, f"{tables.rules} rules", variant,
                                  us_per_row=1e6 * seconds / bench.options.rows,
                                  wal_per_row=wal / bench.options.rows)
                tables.control.run(f"TRUNCATE {'record.assignment' if variant == 'record' else 'plain.leads'}")
    for tables, path, _ in cases:
        tables.empty("routed")
        tables.copy("routed", path)
        tables.verify()
        tables.empty("routed")


def members(bench):
    """One pool of 10 members, of 10,000, and of 10,000 of whom 90 % have reached their cap."""
    cells = []
    for cell, reps, capped in (("10", 10, 0), ("10000", 10000, 0), ("10000 capped", 10000, 9000)):
        tables = bench.tables(f"members_{reps}_{capped}", ["routed"], pools=1, reps=reps, capped=capped)
        first = tables.write_leads(10000)
        cells.append((cell, tables, capped, first, tables.write_leads(bench.options.rows // 10)))

    def prepare(tables, capped, first):
        """One lead for each of 10,000 members: those with a cap of 1 have reached it."""
        tables.control.run("TRUNCATE leadroute.assignment, leadroute.alert, leadroute.checkpoint")
        tables.control.run("TRUNCATE routed.leads RESTART IDENTITY")
        tables.copy("routed", first)
        found = tables.control.number("SELECT count(*) FROM leadroute._pool_memory(0) WHERE reason = 'rep_cap'")
        if found != capped:
            raise MeasureError(f"{found} members are at their cap instead of {capped}")
        tables.control.run("CHECKPOINT")

    for number in bench.rounds("members"):
        for cell, tables, capped, first, path in turned(cells, number):
            prepare(tables, capped, first)
            tps = bench.tps(tables, "routed", 8, "off")
            prepare(tables, capped, first)
            seconds, _ = tables.copy("routed", path)
            bench.results.add("members", number, cell, "routed", tps=tps,
                              us_per_row=1e6 * seconds / (bench.options.rows // 10))
    for _, tables, _, _, _ in cells:
        tables.verify()


# As many keys as the USA has ZIP codes and India has pincodes, and of their form.
ENTRIES = """SELECT 'area', lpad((501 + i * 2)::text, 5, '0'), 'pool 1' FROM generate_series(1, 41153) i
    UNION ALL SELECT 'area', (400000 + i)::text, 'pool 1' FROM generate_series(1, 19238) i"""


def territory(bench):
    """A rule that names its pool, against one with a territory of 60,391 entries, all of that pool:
    leads with random keys of 19,238. Also how long the entries take to load."""
    cells = []
    for cell in ("pool", "exact", "prefix"):
        tables = bench.tables(f"territory_{cell}", ["routed"], pools=1, reps=10, rules=1)
        tables.rules = 19238
        tables.control.run("UPDATE leadroute.rule SET condition = 'true'")
        entries = f"{bench.server.directory}/entries.copy"
        if cell != "pool":
            tables.control.run(f"COPY ({ENTRIES}) TO '{entries}'")
            tables.control.run(f"INSERT INTO leadroute.territory (name, key, match) VALUES ('area', 'pincode', '{cell}')")
            tables.control.run("UPDATE leadroute.rule SET pool = NULL, territory = 'area'")
        cells.append((cell, tables, entries, tables.write_leads(bench.options.rows // 10)))

    for number in bench.rounds("territory"):
        for cell, tables, entries, path in turned(cells, number):
            figures = {}
            if cell != "pool":
                tables.control.run("TRUNCATE leadroute.territory_entry")
                figures["load"] = tables.control.timed(
                    f"COPY leadroute.territory_entry (territory, key, pool) FROM '{entries}'")
                tables.control.run("ANALYZE leadroute.territory_entry")
            tables.empty("routed")
            figures["tps"] = bench.tps(tables, "routed", 8, "off")
            tables.empty("routed")
            seconds, _ = tables.copy("routed", path)
            figures["us_per_row"] = 1e6 * seconds / (bench.options.rows // 10)
            bench.results.add("territory", number, cell, "routed", **figures)
    for _, tables, _, _ in cells:
        tables.verify()


METHODS = ["round_robin", "weighted", "least_open", "priority", "nearest", "performance", "value"]

# Leads and reps anywhere, worth something, three tiers, weights of 1 to 5: of use to some methods, there for all.
AROUND_METHODS = """
    ALTER TABLE routed.leads ADD location point DEFAULT point(random() * 360 - 180, random() * 180 - 90);
    UPDATE leadroute.lead_table SET location_column = 'location', value_expression = 'deal_value';
    UPDATE leadroute.rep SET location = point(random() * 360 - 180, random() * 180 - 90);
    UPDATE leadroute.pool_member SET tier = 1 + rep % 3, weight = 1 + rep % 5;
    INSERT INTO leadroute.performance (pool, rep, weight, closes, won, touches)
        SELECT 1, rep, 0.5 + (rep % 7) / 4.0, 0, 0, 0 FROM leadroute.pool_member"""


def methods(bench):
    """Each method with one pool of 10 members and of 10,000."""
    cells = []
    for reps in (10, 10000):
        tables = bench.tables(f"methods_{reps}", ["routed"], pools=1, reps=reps)
        for statement in AROUND_METHODS.split(";"):
            tables.control.run(statement)
        path = tables.write_leads(bench.options.rows // 10)
        cells += [(f"{method} {reps}", tables, method, path) for method in METHODS]
    for number in bench.rounds("methods"):
        for cell, tables, method, path in turned(cells, number):
            tables.control.run(f"UPDATE leadroute.pool SET method = '{method}'")
            tables.empty("routed")
            seconds, _ = tables.copy("routed", path)
            bench.results.add("methods", number, cell, "routed",
                              us_per_row=1e6 * seconds / (bench.options.rows // 10))
    for tables in {id(cell[1]): cell[1] for cell in cells}.values():
        tables.verify()


def wal(bench):
    """Bytes of WAL per lead. Pages that existed before the checkpoint are logged whole at their first
    change; a few thousand leads beforehand leave those of the catalogs and indexes behind."""
    ten = bench.ten_pools()
    rows = max(bench.options.rows // 20, 1000)
    path = ten.write_leads(bench.options.rows // 10)
    position = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
    for number in range(1, min(bench.options.rounds, 3) + 1):
        print(f"wal: round {number}", flush=True)
        for variant in ("plain", "peer", "routed"):
            ten.empty(variant)
            for count in (2000, rows):
                start = ten.control.number(position)
                ten.server.load(ten.database, variant, clients=1, rules=ten.rules, sync="off",
                                amount=["-t", count]).finish()
                used = ten.control.number(position) - start
            ten.check(variant)
            bench.results.add("wal", number, "insert", variant, wal_per_row=used / rows)
        for variant in ("plain", "routed"):
            ten.empty(variant)
            _, used = ten.copy(variant, path)
            bench.results.add("wal", number, "COPY", variant, wal_per_row=used / (bench.options.rows // 10))


def restart(bench):
    """The first insert after a restart, and after a crash, over a long record."""
    tables = bench.tables("history", ["routed"])
    fabricate(bench, tables)
    plan = [(way, number) for number in range(1, bench.options.rounds + 1) for way in ("restart", "crash")]
    for way, number in plan:
        print(f"restart: {way} {number} of {bench.options.rounds}", flush=True)
        bench.server.psql(tables.database, "-c", "CHECKPOINT")
        bench.server.stop() if way == "restart" else bench.server.crash()
        bench.server.start()
        figures = {}
        for name in ("first", "later"):
            session = tables.session()
            session.run("SELECT 1")
            figures[name] = session.timed(tables.insert_one("routed"))
            session.close()
        session = tables.session()
        if session.value("SELECT value FROM leadroute.stat WHERE name = 'rebuilds'") != "1":
            raise MeasureError("the state in memory was not rebuilt once")
        session.close()
        bench.results.add("restart", number, way, "routed", **figures)
    # the other items' sessions ended with the server
    bench.made.clear()


def fabricate(bench, tables):
    """Writes a long record as if it had grown over a year, then lets leadroute work on top of it
    until it has written a checkpoint, and for a while longer."""
    older = bench.options.history
    print(f"restart: writing {older} older assignments", flush=True)
    tables.control.run(f"""SET session_replication_role = replica;
        \\set older {older}
        \\set today {older // 100}
        \\i {HERE}/history.sql
        RESET session_replication_role""")
    tables.control.run("VACUUM (ANALYZE) leadroute.assignment")
    bench.server.stop()
    bench.server.start()
    for _ in range(20):
        bench.server.load(tables.database, "routed", clients=8, rules=tables.rules, sync="off",
                          amount=["-t", 500]).finish()
        session = tables.session()
        checkpoints = session.number("SELECT count(*) FROM leadroute.checkpoint")
        session.close()
        if checkpoints > 0:
            break
    else:
        raise MeasureError("leadroute writes no checkpoint")
    bench.server.load(tables.database, "routed", clients=8, rules=tables.rules, sync="off",
                      amount=["-t", 500]).finish()


@contextlib.contextmanager
def notifying_peer(tables):
    """The PL/pgSQL trigger tells listeners, in the transaction."""
    switch = "ALTER TABLE peer.leads {} TRIGGER record, {} TRIGGER record_and_notify"
    tables.control.run(switch.format("DISABLE", "ENABLE"))
    try:
        yield
    finally:
        tables.control.run(switch.format("ENABLE", "DISABLE"))


@contextlib.contextmanager
def listening(conninfo, channel, count):
    """So many sessions that listen to all events, and take them."""
    program = os.path.join(HERE, "listener.py")
    listeners = subprocess.Popen([sys.executable, program, conninfo, channel, str(count)],
                                 stdout=subprocess.PIPE, text=True)
    try:
        if listeners.stdout.readline() != "ready\n":
            raise MeasureError("the listeners do not listen")
        yield
    finally:
        listeners.kill()
        listeners.wait()


def events(bench):
    """Events on, with 20 listeners (who hear nothing of the plain table): what inserts cost, also those of
    the PL/pgSQL trigger, and how long an event takes at 1,000 leads a second, from the decision (before
    the commit) to the listener."""
    ten = bench.ten_pools()
    options = bench.options
    conninfo = " ".join(f"{key}={bench.server.env[name]}" for key, name in (
        ("host", "PGHOST"), ("port", "PGPORT"), ("user", "PGUSER"))) + f" dbname={ten.database}"
    for number in bench.rounds("events"):
        for cell, clients, variants in (("on/1", 1, ["plain", "routed"]),
                                        ("on/32", 32, ["plain", "peer_notify", "routed"])):
            for variant in turned(variants, number):
                table = "peer" if variant == "peer_notify" else variant
                ten.empty(table)
                with listening(conninfo, "peer" if table == "peer" else "leadroute", 20), \
                        notifying_peer(ten) if table == "peer" else contextlib.nullcontext():
                    tps = bench.tps(ten, table, clients, "on")
                bench.results.add("events", number, cell, variant, tps=tps)
        ten.empty("routed")
        load = bench.server.load(ten.database, "routed", clients=4, rules=ten.rules, sync="on",
                                 amount=["-R", 1000, "-T", math.ceil(options.warm_up + options.seconds + 1)])
        listener = Listener(conninfo)
        listener.latencies(options.warm_up)
        found = sorted(listener.latencies(options.seconds))
        listener.close()
        load.finish()
        if not found:
            raise MeasureError("no event was heard")
        bench.results.add("events", number, "latency", "routed", median=found[len(found) // 2],
                          p99=found[len(found) * 99 // 100])
    ten.verify()


def replay(bench):
    """replay() of 100,000 leads by the configuration that routed them, which moves none."""
    tables = bench.tables("replay", ["routed"], pools=10, reps=10, rules=100)
    tables.empty("routed")
    tables.copy("routed", tables.write_leads(100000))
    for number in bench.rounds("replay"):
        if tables.control.number("SELECT count(*) FROM leadroute.replay('leads') WHERE changed") != 0:
            raise MeasureError("the replay moves leads")
        seconds = tables.control.timed("SELECT count(*) FROM leadroute.replay('leads')")
        bench.results.add("replay", number, "100000", "routed", seconds=seconds)
    tables.verify()


def core(bench):
    """The core alone: one decision, for pools of several sizes."""
    with tempfile.TemporaryDirectory() as directory:
        program, output = os.path.join(directory, "core_bench"), os.path.join(directory, "core.json")
        sources = [os.path.join(TOP, "src/core", name) for name in os.listdir(os.path.join(TOP, "src/core"))
                   if name.endswith(".cpp")]
        for command in (
                ["g++", "-std=c++20", "-O2", "-I" + os.path.join(TOP, "src/core"),
                 "-I" + os.path.join(TOP, "test/unit"), os.path.join(HERE, "core_bench.cpp"), *sources, "-o", program,
                 "-lbenchmark_main", "-lbenchmark", "-lpthread"],
                [program, f"--benchmark_repetitions={bench.options.rounds}",
                 "--benchmark_enable_random_interleaving=true", f"--benchmark_min_time={bench.options.seconds / 20}",
                 f"--benchmark_out={output}", "--benchmark_out_format=json"]):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                raise MeasureError(f"{command[0]}: {done.stdout}{done.stderr}")
        with open(output, encoding="utf-8") as file:
            for run in json.load(file)["benchmarks"]:
                if run["run_type"] == "iteration":
                    bench.results.add("core", run["repetition_index"] + 1, run["run_name"], "core",
                                      ns=run["cpu_time"])


ITEMS = {"single": single, "copy": copy, "members": members, "methods": methods, "territory": territory, "wal": wal,
         "restart": restart, "events": events, "claim": claim, "sla": sla,
         "replay": replay, "rules": rules, "core": core}
