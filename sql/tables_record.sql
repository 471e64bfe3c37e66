-- STATE, continued: the record that the engine writes (assignment, alert) and what it needs to start
-- quickly (checkpoint). As for tables.sql, only upgrade steps change this file's objects.

CREATE FUNCTION leadroute._place(label jsonb, at_front boolean) RETURNS integer
    LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'leadroute_place';
COMMENT ON FUNCTION leadroute._place(jsonb, boolean) IS
    'A lead''s first measure among those that wait: the label''s priority as an integer, the lowest first; one without a number there comes last, one put to the front before all.';

CREATE TABLE leadroute.assignment (
    -- fixed-width columns first: fewer bytes per row
    tenant bigint NOT NULL DEFAULT 0,
    ticket bigint NOT NULL DEFAULT 0,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rep bigint,
    rule bigint,
    tag double precision,
    lead_table integer NOT NULL,
    episode integer NOT NULL DEFAULT 1,
    pool integer,
    day date,
    rep_cap integer,
    member_cap integer,
    deficit real,
    rule_version integer,
    lead_id text COLLATE "C" NOT NULL,
    method text NOT NULL DEFAULT 'push',
    explanation bytea,
    due_at timestamptz,
    touched_at timestamptz,
    ended_at timestamptz,
    end_reason text,
    label jsonb,
    given_by text,
    remark text,
    outcome text,
    value numeric,
    open_cap integer,
    credit_ticket bigint,
    credit_day boolean,
    credited_at timestamptz,
    credited_by text,
    credit_reason text,
    contact bigint,
    cost double precision,
    score double precision,
    needs text[],
    at_front boolean,
    avoid bigint[],
    offered_to bigint[],
    offered_until timestamptz,
    tank_pool integer,
    tank_at timestamptz,
    sla integer,
    next_step_at timestamptz,
    stepped interval,
    breached_at timestamptz,
    hops integer,
    pool_bound boolean,
    CONSTRAINT assignment_method_check CHECK (method IN
        ('push', 'overflow', 'sticky', 'claim', 'reroute', 'manual', 'backlog')),
    CONSTRAINT assignment_episode_check CHECK (episode >= 1),
    CONSTRAINT assignment_turn_check CHECK (rep IS NULL OR pool IS NULL OR day IS NOT NULL)
)
-- An episode that ends stays on its page: else each ending writes to two, wherever there is room.
WITH (fillfactor = 95);
-- An UPDATE must work where the table is published, and it has no primary key.
ALTER TABLE leadroute.assignment REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX assignment_open
    ON leadroute.assignment (tenant, lead_table, lead_id leadroute.key_ops) WHERE ended_at IS NULL;
CREATE UNIQUE INDEX assignment_ended
    ON leadroute.assignment (tenant, lead_table, lead_id leadroute.key_ops, episode) WHERE ended_at IS NOT NULL;
CREATE INDEX assignment_rep ON leadroute.assignment (tenant, rep, day) WHERE rep IS NOT NULL AND ended_at IS NULL;
CREATE INDEX assignment_rep_ended ON leadroute.assignment (tenant, rep, day) WHERE rep IS NOT NULL AND ended_at IS NOT NULL;
CREATE INDEX assignment_credited ON leadroute.assignment (tenant, credit_ticket) WHERE credit_ticket IS NOT NULL;
CREATE INDEX assignment_waiting ON leadroute.assignment (tenant, decided_at) WHERE rep IS NULL AND ended_at IS NULL;
CREATE INDEX assignment_queue ON leadroute.assignment
    (tenant, pool, rule, coalesce(label -> 'priority', '{}'), decided_at, lead_id leadroute.key_ops)
    WHERE rep IS NULL AND ended_at IS NULL AND method <> 'manual';
CREATE INDEX assignment_pull ON leadroute.assignment
    (tenant, pool, leadroute._place(label, at_front), coalesce(-score, 'Infinity'), decided_at, lead_id leadroute.key_ops)
    WHERE rep IS NULL AND ended_at IS NULL AND method <> 'manual' AND pool IS NOT NULL;
CREATE INDEX assignment_tank ON leadroute.assignment
    (tenant, tank_pool, leadroute._place(label, at_front), coalesce(-score, 'Infinity'), tank_at, lead_id leadroute.key_ops)
    WHERE tank_pool IS NOT NULL AND ended_at IS NULL AND touched_at IS NULL;
CREATE INDEX assignment_offered ON leadroute.assignment (offered_until)
    WHERE offered_until IS NOT NULL AND ended_at IS NULL;
CREATE INDEX assignment_ended_at ON leadroute.assignment (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX assignment_contact ON leadroute.assignment (tenant, lead_table, contact, decided_at)
    WHERE contact IS NOT NULL AND rep IS NOT NULL;
CREATE INDEX assignment_due ON leadroute.assignment (next_step_at)
    WHERE next_step_at IS NOT NULL AND ended_at IS NULL AND touched_at IS NULL;

COMMENT ON TABLE leadroute.assignment IS
    'The record: one row per episode of a lead with one rep, or with one queue. Its key is (tenant, lead_table, lead_id, episode), kept by two partial unique indexes instead of a primary key: assignment_open allows one open episode per lead, assignment_ended keeps the ended ones apart. Shared memory is a cache of this table and follows edits made by SQL.';
COMMENT ON INDEX leadroute.assignment_open IS 'At most one open episode per lead.';
COMMENT ON INDEX leadroute.assignment_ended IS 'Ended episodes of a lead.';
COMMENT ON INDEX leadroute.assignment_rep IS 'A rep''s open leads: reads the open counts, the daily ones and what came after a checkpoint. By day, so that entries share their key and take little room.';
COMMENT ON INDEX leadroute.assignment_rep_ended IS 'A rep''s recent leads that have ended, for the same counts.';
COMMENT ON INDEX leadroute.assignment_credited IS 'Turns credited back after a checkpoint.';
COMMENT ON INDEX leadroute.assignment_waiting IS 'Leads that wait, by the time they came into a queue, for their events; those that waited are found by assignment_ended_at.';
COMMENT ON INDEX leadroute.assignment_queue IS 'Leads that wait, queue by queue and by their rules, in the order in which they are given out: by the label''s priority, and age.';
COMMENT ON INDEX leadroute.assignment_pull IS 'Leads that wait in a pool, in the order in which they are claimed: put to the front, by priority, score, and age.';
COMMENT ON INDEX leadroute.assignment_tank IS 'The shark tank, pool by pool and in the same order.';
COMMENT ON INDEX leadroute.assignment_offered IS 'Offers by the time at which they end.';
COMMENT ON INDEX leadroute.assignment_ended_at IS 'Episodes that ended lately, for their events.';
COMMENT ON INDEX leadroute.assignment_contact IS 'Who has had a contact, the latest last; empty where no lead table has a sticky_on.';
COMMENT ON INDEX leadroute.assignment_due IS 'Untouched leads by the time of the next step of their policy: what is due is found by it.';
COMMENT ON COLUMN leadroute.assignment.tenant IS 'The lead''s tenant.';
COMMENT ON COLUMN leadroute.assignment.ticket IS 'Number of the deciding transaction within the tenant; tells which rows a checkpoint includes.';
COMMENT ON COLUMN leadroute.assignment.decided_at IS 'The clock at the pick.';
COMMENT ON COLUMN leadroute.assignment.rep IS 'The owner''s id; NULL: the lead waits in a queue.';
COMMENT ON COLUMN leadroute.assignment.rule IS 'Id of the rule that matched.';
COMMENT ON COLUMN leadroute.assignment.rule_version IS 'Version of the rule''s row that matched, as config_change has it; leadroute.rule_version() shows it.';
COMMENT ON COLUMN leadroute.assignment.lead_table IS 'Id of the attached table.';
COMMENT ON COLUMN leadroute.assignment.episode IS '1 for a lead''s first assignment, then counting up.';
COMMENT ON COLUMN leadroute.assignment.pool IS 'Id of the pool that gave the lead out or keeps it in its queue; NULL: a rule''s own rep, an owner given by hand, or the queue unmatched.';
COMMENT ON COLUMN leadroute.assignment.day IS 'The calendar day in the rep''s time zone that the lead counts for; NULL: counts for none.';
COMMENT ON COLUMN leadroute.assignment.rep_cap IS 'The rep''s daily cap in force at the pick.';
COMMENT ON COLUMN leadroute.assignment.member_cap IS 'The pool member''s daily cap in force at the pick.';
COMMENT ON COLUMN leadroute.assignment.deficit IS 'Turns (or value) due minus received of the rep in the pool, right after the pick.';
COMMENT ON COLUMN leadroute.assignment.cost IS 'What the lead cost the rep in a pool with the method value, in 1/1024; NULL: one turn.';
COMMENT ON COLUMN leadroute.assignment.tag IS 'The rep''s start tag in the pool''s virtual time, less the turns (or the value) received: from it and the count of rows a rebuild knows the rotation.';
COMMENT ON COLUMN leadroute.assignment.lead_id IS 'The lead''s key in its output form.';
COMMENT ON COLUMN leadroute.assignment.method IS 'How the owner was found: push, overflow, sticky (the known owner of its contact), manual and others.';
COMMENT ON COLUMN leadroute.assignment.explanation IS 'Why, encoded; read it with leadroute.why() or leadroute.why_json().';
COMMENT ON COLUMN leadroute.assignment.due_at IS 'When the first touch is due; infinity: in business time that never comes. NULL: no policy.';
COMMENT ON COLUMN leadroute.assignment.touched_at IS 'The first touch.';
COMMENT ON COLUMN leadroute.assignment.ended_at IS 'When the episode ended; NULL while it is open.';
COMMENT ON COLUMN leadroute.assignment.end_reason IS 'manual, reassigned, released, routed (by route() or the backlog), rerouted (reroute_on), claimed, breached (a policy took it away: re-routed or recycled), deleted, moved, detached, dropped, truncated, closed.';
COMMENT ON COLUMN leadroute.assignment.label IS 'The label of the rule that matched.';
COMMENT ON COLUMN leadroute.assignment.given_by IS 'The database role that gave or released the lead by hand: what SET ROLE said, else the session''s user.';
COMMENT ON COLUMN leadroute.assignment.remark IS 'Why, in the words of whoever gave or released it.';
COMMENT ON COLUMN leadroute.assignment.outcome IS 'What became of a closed lead.';
COMMENT ON COLUMN leadroute.assignment.value IS 'What a closed lead was worth; NULL: nothing is said.';
COMMENT ON COLUMN leadroute.assignment.open_cap IS 'The rep''s capacity in force at the pick.';
COMMENT ON COLUMN leadroute.assignment.score IS 'The lead''s score (lead_table.score_column) when it came to wait, or as it was changed since; NULL: none.';
COMMENT ON COLUMN leadroute.assignment.needs IS 'Of a lead that waits: the skills that whoever claims it must have, as its rule''s needs said; NULL: none.';
COMMENT ON COLUMN leadroute.assignment.at_front IS 'True: a lead that waits was put to the front of its queue.';
COMMENT ON COLUMN leadroute.assignment.avoid IS 'Reps who gave the lead up or lost it: the engine does not give it to them again, nor does claim_next(); NULL: none.';
COMMENT ON COLUMN leadroute.assignment.offered_to IS 'The members to whom a lead was offered (pool mode broadcast); NULL: it was not.';
COMMENT ON COLUMN leadroute.assignment.offered_until IS 'When the offer ends and the lead is given out; infinity: when somebody claims it.';
COMMENT ON COLUMN leadroute.assignment.tank_pool IS 'Id of the pool whose members may take the lead from its rep, who has not touched it in time: it is in the shark tank until it is touched or taken.';
COMMENT ON COLUMN leadroute.assignment.tank_at IS 'Since when it is in the shark tank.';
COMMENT ON COLUMN leadroute.assignment.sla IS 'Id of the first-touch policy in force when the rep received the lead.';
COMMENT ON COLUMN leadroute.assignment.next_step_at IS 'When the policy''s next step is to be done unless the lead is touched; NULL: there is none left.';
COMMENT ON COLUMN leadroute.assignment.stepped IS 'The steps up to this time after the assignment, as the policy counts it, are done.';
COMMENT ON COLUMN leadroute.assignment.breached_at IS 'When it was found that the first touch had not come in time.';
COMMENT ON COLUMN leadroute.assignment.hops IS 'How often the lead has been taken from a rep who missed it, since it came, or to a recycle bin; NULL: never.';
COMMENT ON COLUMN leadroute.assignment.pool_bound IS 'True: a policy has moved the lead to this pool, such as a recycle bin: while it waits it does so for this pool, whatever its rule says.';
COMMENT ON COLUMN leadroute.assignment.contact IS 'Hash of what sticky_on of the lead table said of the lead; NULL: it has no contact.';
COMMENT ON COLUMN leadroute.assignment.credit_ticket IS 'Number of the transaction that credited the turn back, as ticket; set by leadroute.';
COMMENT ON COLUMN leadroute.assignment.credit_day IS 'True: credited back with the day''s cap.';
COMMENT ON COLUMN leadroute.assignment.credited_at IS 'When the turn was credited back; NULL: it counts.';
COMMENT ON COLUMN leadroute.assignment.credited_by IS 'The database role that credited it back.';
COMMENT ON COLUMN leadroute.assignment.credit_reason IS 'Why, in its words.';

CREATE TABLE leadroute.unmanaged_lead (
    tenant bigint NOT NULL DEFAULT 0,
    lead_table integer NOT NULL,
    lead_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, lead_table, lead_id)
);

COMMENT ON TABLE leadroute.unmanaged_lead IS
    'Leads that were there when their table was attached and were left alone: never routed, never counted as lost.';
COMMENT ON COLUMN leadroute.unmanaged_lead.tenant IS 'The lead''s tenant.';
COMMENT ON COLUMN leadroute.unmanaged_lead.lead_table IS 'Id of the attached table.';
COMMENT ON COLUMN leadroute.unmanaged_lead.lead_id IS 'The lead''s key in its output form.';

CREATE TABLE leadroute.checkpoint (
    tenant bigint NOT NULL DEFAULT 0,
    ticket bigint NOT NULL,
    taken_at timestamptz NOT NULL,
    since timestamptz NOT NULL,
    in_flight bigint[] NOT NULL,
    pools integer[] NOT NULL,
    reps bigint[] NOT NULL,
    received bigint[] NOT NULL,
    deficit double precision[] NOT NULL,
    start double precision[] NOT NULL,
    extra bigint[],
    PRIMARY KEY (tenant, ticket),
    CONSTRAINT checkpoint_arrays_check CHECK (
        cardinality(pools) = cardinality(reps) AND cardinality(reps) = cardinality(received)
        AND cardinality(received) = cardinality(deficit) AND cardinality(deficit) = cardinality(start)
        AND (extra IS NULL OR cardinality(extra) = cardinality(start)))
);

COMMENT ON TABLE leadroute.checkpoint IS
    'Totals of the record up to a ticket, so that shared memory is rebuilt from them and the rows since, whatever the age of the record. May be emptied at any time: the next rebuild then reads the whole record.';
COMMENT ON COLUMN leadroute.checkpoint.tenant IS 'The tenant.';
COMMENT ON COLUMN leadroute.checkpoint.ticket IS 'Rows up to this ticket are included, but for those of in_flight.';
COMMENT ON COLUMN leadroute.checkpoint.taken_at IS 'When the checkpoint was taken.';
COMMENT ON COLUMN leadroute.checkpoint.since IS 'Rows not included were decided at this time or later; -infinity: none is included, the record was edited by hand.';
COMMENT ON COLUMN leadroute.checkpoint.in_flight IS 'Tickets of the transactions that had not ended.';
COMMENT ON COLUMN leadroute.checkpoint.pools IS 'One element per pool member, as in the arrays after it: the pool''s id.';
COMMENT ON COLUMN leadroute.checkpoint.reps IS 'The rep''s id.';
COMMENT ON COLUMN leadroute.checkpoint.received IS 'Leads received.';
COMMENT ON COLUMN leadroute.checkpoint.deficit IS 'Turns due minus turns received.';
COMMENT ON COLUMN leadroute.checkpoint.extra IS 'What the leads received cost beyond 1 each, in 1/1024; NULL: nothing.';
COMMENT ON COLUMN leadroute.checkpoint.start IS 'The member''s start tag in the pool''s virtual time.';

CREATE TABLE leadroute.alert (
    tenant bigint NOT NULL DEFAULT 0,
    id bigint GENERATED BY DEFAULT AS IDENTITY,
    kind text NOT NULL,
    lead_table integer,
    lead_id text,
    rep bigint,
    pool integer,
    rule bigint,
    manager bigint,
    message text NOT NULL,
    raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    acknowledged_at timestamptz,
    acknowledged_by name,
    PRIMARY KEY (tenant, id),
    CONSTRAINT alert_kind_check CHECK (kind IN ('unmatched', 'nobody_available', 'rule_error',
        'sla_breach', 'reroute_limit', 'sweep_late', 'memory_full', 'backlog_error',
        'escalated', 'sla_error'))
);
CREATE INDEX alert_open ON leadroute.alert (tenant, kind, rule) WHERE acknowledged_at IS NULL;

CREATE INDEX alert_raised ON leadroute.alert (raised_at);

COMMENT ON TABLE leadroute.alert IS 'What a person must see. Repetitions within a minute are left out.';
COMMENT ON INDEX leadroute.alert_raised IS 'Alerts raised lately, for their events.';
COMMENT ON INDEX leadroute.alert_open IS 'Alerts that nobody has acknowledged.';
COMMENT ON COLUMN leadroute.alert.tenant IS 'The tenant.';
COMMENT ON COLUMN leadroute.alert.id IS 'Unique within the tenant.';
COMMENT ON COLUMN leadroute.alert.kind IS 'unmatched, nobody_available, rule_error and others.';
COMMENT ON COLUMN leadroute.alert.lead_table IS 'Id of the attached table.';
COMMENT ON COLUMN leadroute.alert.lead_id IS 'The lead, where it is about one.';
COMMENT ON COLUMN leadroute.alert.rep IS 'The rep it is about.';
COMMENT ON COLUMN leadroute.alert.pool IS 'The pool it is about.';
COMMENT ON COLUMN leadroute.alert.rule IS 'The rule it is about.';
COMMENT ON COLUMN leadroute.alert.manager IS 'Whom it is for: the rep''s manager, else the pool''s, else the lead table''s.';
COMMENT ON COLUMN leadroute.alert.message IS 'What happened.';
COMMENT ON COLUMN leadroute.alert.raised_at IS 'When.';
COMMENT ON COLUMN leadroute.alert.acknowledged_at IS 'When a person took note.';
COMMENT ON COLUMN leadroute.alert.acknowledged_by IS 'Who.';

-- Not dumped: it speaks of the transactions of this cluster.
CREATE TABLE leadroute.event_cursor (
    tenant bigint NOT NULL DEFAULT 0,
    cursor text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant)
);

COMMENT ON TABLE leadroute.event_cursor IS
    'How far the background worker has sent the events of this database; after a crash it goes on from here.';
COMMENT ON COLUMN leadroute.event_cursor.tenant IS '0: the worker serves all tenants.';
COMMENT ON COLUMN leadroute.event_cursor.cursor IS 'As next_cursor of leadroute.events_since().';
COMMENT ON COLUMN leadroute.event_cursor.stored_at IS 'When it was stored.';

-- A dump contains the rows of an extension's table, and the position of a sequence, only if told.
SELECT pg_extension_config_dump('leadroute.assignment', '');
SELECT pg_extension_config_dump('leadroute.unmanaged_lead', '');
SELECT pg_extension_config_dump('leadroute.checkpoint', '');
SELECT pg_extension_config_dump('leadroute.alert', '');
SELECT pg_extension_config_dump('leadroute.alert_id_seq', '');
