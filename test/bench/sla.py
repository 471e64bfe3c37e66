"""Leads that breach: what it costs to find those that are late among a million, and to move them to
somebody else, by sweep() and by what one would write by hand.

  find      the query by the index that sweep() goes by, alone
  loop      PL/pgSQL, lead by lead: the episode is closed, the lead gets its owner, a new episode is
            opened, and the manager an alert
  set       the same as one statement, with nested loops forced: the best plan for it
  record    the same of a table that keeps of an episode what leadroute does, with as many indexes
  routed    CALL leadroute.sweep(): besides that the rules decide, caps and turns are counted, listeners
            are told, and it is committed in batches

Before each cell as many leads, scattered, are made late, and their rows written and vacuumed: no page
is met for the first time since a checkpoint. By hand the next rep is simply the one with the next number.
"""

import time

from server import MeasureError

SIZES = (1000, 10000, 100000)
STATEMENTS = {"loop": "CALL peer.sweep()", "set": "CALL peer.sweep_set()",
              "record": "CALL record.sweep_set()", "routed": "CALL leadroute.sweep()"}
FIND = """SELECT count(lead_id) FROM (SELECT lead_id FROM leadroute.assignment
    WHERE next_step_at <= now() AND next_step_at IS NOT NULL AND ended_at IS NULL AND touched_at IS NULL
    ORDER BY next_step_at LIMIT {}) late"""
TABLE = {"loop": "peer", "set": "peer", "record": "record", "routed": "routed"}
VACUUMED = {"peer": "peer.leads, peer.assignments, peer.alert",
            "record": "record.leads, record.assignments, record.alert",
            "routed": "routed.leads, leadroute.assignment, leadroute.sla_action, leadroute.alert"}
# How many leads are late, and how many of the chosen ones have a new episode, which the lead's owner has.
LATE = {
    "peer": "SELECT count(*) FROM peer.assignments WHERE state = 'open' AND touched_at IS NULL AND due_at <= now()",
    "record": "SELECT count(*) FROM record.assignments WHERE ended_at IS NULL AND touched_at IS NULL AND due_at <= now()",
    "routed": "SELECT count(*) FROM leadroute.assignment WHERE next_step_at <= now() AND ended_at IS NULL AND touched_at IS NULL",
}
MOVED = {
    "peer": """SELECT count(*) FROM chosen c JOIN peer.assignments a ON a.lead_id = c.lead_id AND a.state = 'open'
        JOIN peer.leads l ON l.id = c.lead_id AND l.owner_id = a.rep_id WHERE a.assigned_at > '{}'""",
    "record": """SELECT count(*) FROM chosen c JOIN record.assignments a ON a.lead_id = c.lead_id AND a.ended_at IS NULL
        JOIN record.leads l ON l.id = c.lead_id AND l.owner_id = a.rep_id WHERE a.assigned_at > '{}'""",
    "routed": """SELECT count(*) FROM chosen c JOIN leadroute.assignment a ON a.tenant = 0 AND a.lead_table = 1
        AND a.lead_id = c.lead_id::text AND a.ended_at IS NULL AND a.method = 'reroute'
        JOIN routed.leads l ON l.id = c.lead_id AND l.owner_id = a.rep WHERE a.decided_at > '{}'""",
}


class Late:
    def __init__(self, bench, leads):
        self.server, self.leads = bench.server, leads
        self.server.create_database("sla")
        for variant in ("peer", "record", "routed"):
            self.server.script("sla", "leads.sql", variant=variant)
        self.server.script("sla", "sla.sql", leads=leads)
        self.control = self.server.session("sla")
        # what the planner would not choose here by itself is the best plan for the one statement
        self.sessions = {"loop": self.server.session("sla", jit="off"),
                         "set": self.server.session("sla", jit="off", enable_hashjoin="off", enable_mergejoin="off"),
                         "record": self.server.session("sla", jit="off", enable_hashjoin="off", enable_mergejoin="off"),
                         "routed": self.server.session("sla")}
        self.finder = self.server.session("sla", jit="off", enable_seqscan="off", enable_bitmapscan="off")

    def prepare(self, table, count):
        self.control.run(f"CALL choose({count})")
        self.control.run(f"CALL make_late('{table}')")
        self.control.run(f"VACUUM {VACUUMED[table]}")
        self.wait_for_listeners()
        chosen = int(self.control.value("SELECT count(*) FROM chosen"))
        late = int(self.control.value(LATE[table]))
        if late != chosen:
            raise MeasureError(f"{table}: {late} leads are late, and not {chosen}")
        return late

    def wait_for_listeners(self):
        """The worker that sends events works beside, until it has sent all."""
        for _ in range(600):
            if self.control.value("SELECT value FROM leadroute.stat WHERE name = 'events_pending'") == "0":
                return
            time.sleep(0.1)
        raise MeasureError("events are not sent")

    def find(self, count):
        self.finder.run(FIND.format(count))
        return 1000 * self.finder.timed(FIND.format(count))

    def sweep(self, variant, table, late):
        """Microseconds for each lead."""
        begun = self.control.value("SELECT clock_timestamp()")
        session = self.sessions[variant]
        seconds = session.timed(STATEMENTS[variant])
        left = int(self.control.value(LATE[table]))
        moved = int(self.control.value(MOVED[table].format(begun)))
        if left != 0 or moved != late:
            raise MeasureError(f"{variant}: {moved} of {late} leads were moved, {left} are late")
        return 1e6 * seconds / late

    def verify(self):
        found = self.control.run("SELECT * FROM leadroute.verify()")[0]
        if any(value != "0" for value in found):
            raise MeasureError(f"sla: leadroute.verify() says {found}")


def turned(cells, number):
    start = number % len(cells)
    return cells[start:] + cells[:start]


def sla(bench):
    """Breached leads among a million open ones."""
    late = Late(bench, max(bench.options.rows, 20000))
    for number in bench.rounds("sla"):
        for size in SIZES:
            if size * 5 > late.leads:
                continue
            for variant in turned(list(STATEMENTS), number):
                table = TABLE[variant]
                count = late.prepare(table, size)
                if variant == "routed":
                    bench.results.add("sla", number, str(size), "find", ms=late.find(count))
                bench.results.add("sla", number, str(size), variant, us=late.sweep(variant, table, count))
    late.verify()
