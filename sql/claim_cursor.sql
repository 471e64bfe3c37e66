-- Claim cursors: shared memory hands out the next leads of a queue (src/pg/claim_cursor.h); leads that SQL
-- puts into one are told of here.

CREATE FUNCTION leadroute._claim_arrived() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_claim_arrived';
COMMENT ON FUNCTION leadroute._claim_arrived() IS
    'Tells those who claim, at commit, that a lead has come to a queue, or to another place in it.';

CREATE TRIGGER claim_inserted AFTER INSERT ON leadroute.assignment
    FOR EACH ROW WHEN (NEW.ended_at IS NULL AND NEW.rep IS NULL AND NEW.pool IS NOT NULL)
    EXECUTE FUNCTION leadroute._claim_arrived();
CREATE TRIGGER claim_updated AFTER UPDATE ON leadroute.assignment
    FOR EACH ROW WHEN (NEW.ended_at IS NULL AND (NEW.rep IS NULL AND NEW.pool IS NOT NULL OR NEW.tank_pool IS NOT NULL))
    EXECUTE FUNCTION leadroute._claim_arrived();
