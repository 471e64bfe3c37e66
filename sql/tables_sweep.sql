-- STATE, continued: when sweep() ran. As for tables.sql, only upgrade steps change this file's objects.

-- Not dumped: it speaks of what runs in this cluster.
CREATE TABLE leadroute.sweep_run (
    tenant bigint NOT NULL DEFAULT 0,
    begun_at timestamptz,
    ended_at timestamptz,
    took interval,
    scheduled_at timestamptz,
    PRIMARY KEY (tenant)
);

COMMENT ON TABLE leadroute.sweep_run IS 'When sweep() ran for all tenants: health() says from it whether it is late. One row at most.';
COMMENT ON COLUMN leadroute.sweep_run.tenant IS '0: it is the database''s.';
COMMENT ON COLUMN leadroute.sweep_run.begun_at IS 'When one began last.';
COMMENT ON COLUMN leadroute.sweep_run.ended_at IS 'When one came to its end last: all that was due was done, or looked at.';
COMMENT ON COLUMN leadroute.sweep_run.took IS 'How long that one ran.';
COMMENT ON COLUMN leadroute.sweep_run.scheduled_at IS 'When schedule_sweep() was called last; NULL: not, or unscheduled since.';

ALTER TABLE leadroute.sweep_run ENABLE ROW LEVEL SECURITY;
