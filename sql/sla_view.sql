-- Clocks that run.

CREATE VIEW leadroute.sla WITH (security_invoker = true) AS
    SELECT a.tenant, t.name AS lead_table, a.lead_id, a.rep, a.due_at,
        CASE WHEN a.due_at < clock_timestamp() THEN clock_timestamp() - a.due_at END AS late,
        coalesce(a.hops, 0) AS hops
    FROM leadroute.assignment a
        LEFT JOIN leadroute.lead_table t ON t.id = a.lead_table
    WHERE a.ended_at IS NULL AND a.touched_at IS NULL AND a.due_at IS NOT NULL;
COMMENT ON VIEW leadroute.sla IS
    'Leads whose first touch is still to come, with a clock: rep, when it is due, how late it is (NULL while it is not), and how often the lead was taken from a rep who missed it.';
