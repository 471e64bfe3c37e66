-- STATE, continued: what the methods go by. As for tables.sql, only upgrade steps change this file's
-- objects.

CREATE TABLE leadroute.performance (
    tenant bigint NOT NULL DEFAULT 0,
    pool integer NOT NULL,
    rep bigint NOT NULL,
    weight double precision NOT NULL,
    closes bigint NOT NULL,
    won bigint NOT NULL,
    touches bigint NOT NULL,
    median_speed interval,
    refreshed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, pool, rep),
    CONSTRAINT performance_weight_check CHECK (weight BETWEEN 0.000001 AND 1000000)
);

COMMENT ON TABLE leadroute.performance IS
    'Weights of the members of pools with the method performance, as refresh_performance() has found them. A member without a row has weight 1.';
COMMENT ON COLUMN leadroute.performance.tenant IS 'The company of pool and rep.';
COMMENT ON COLUMN leadroute.performance.pool IS 'The pool, by id.';
COMMENT ON COLUMN leadroute.performance.rep IS 'The member, by rep id.';
COMMENT ON COLUMN leadroute.performance.weight IS 'Share of the pool''s leads against the other members'' weights; about 1 for the average member.';
COMMENT ON COLUMN leadroute.performance.closes IS 'Leads of the window that the member closed.';
COMMENT ON COLUMN leadroute.performance.won IS 'Those of them with an outcome that counts as won.';
COMMENT ON COLUMN leadroute.performance.touches IS 'Leads of the window that the member touched.';
COMMENT ON COLUMN leadroute.performance.median_speed IS 'From the pick to the first touch, of half of them at most; NULL: none was touched.';
COMMENT ON COLUMN leadroute.performance.refreshed_at IS 'When the member was weighed last.';

ALTER TABLE leadroute.performance ENABLE ROW LEVEL SECURITY;
SELECT pg_extension_config_dump('leadroute.performance', '');
