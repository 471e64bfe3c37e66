-- The method performance: weights from what members made of the leads they had.

-- Memory follows the weights alone.
CREATE TRIGGER config_changed AFTER INSERT OR DELETE ON leadroute.performance
    FOR EACH ROW EXECUTE FUNCTION leadroute._config_changed();
CREATE TRIGGER config_weighed AFTER UPDATE ON leadroute.performance
    FOR EACH ROW WHEN ((OLD.tenant, OLD.pool, OLD.rep, OLD.weight) <> (NEW.tenant, NEW.pool, NEW.rep, NEW.weight))
    EXECUTE FUNCTION leadroute._config_changed();
CREATE TRIGGER config_truncated AFTER TRUNCATE ON leadroute.performance
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._config_truncated();
ALTER TABLE leadroute.performance ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE leadroute.performance ENABLE ALWAYS TRIGGER config_weighed;
ALTER TABLE leadroute.performance ENABLE ALWAYS TRIGGER config_truncated;

CREATE POLICY admin ON leadroute.performance USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));

CREATE FUNCTION leadroute._performance(of_pool leadroute.pool)
    RETURNS TABLE (rep bigint, weight double precision, closes bigint, won bigint, touches bigint, median_speed interval)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    -- Counts shrink towards the pool's own mean as if each member had closed, and touched, 20 leads
    -- more of average luck: who has no history weighs 1.
    WITH history AS MATERIALIZED (
        SELECT m.rep, count(*) FILTER (WHERE a.end_reason = 'closed') AS closes,
            count(*) FILTER (WHERE a.end_reason = 'closed' AND a.outcome = ANY (of_pool.performance_won)) AS won,
            count(a.touched_at) AS touches,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY greatest(extract(epoch FROM a.touched_at - a.decided_at), 0))
                FILTER (WHERE a.touched_at IS NOT NULL) AS speed
        FROM leadroute.pool_member m LEFT JOIN leadroute.assignment a
            ON a.tenant = m.tenant AND a.rep = m.rep AND a.pool = of_pool.id
            -- the index is by day; a rep's day may be one ahead or behind
            AND a.day >= (now() - of_pool.performance_window)::date - 1
            AND a.decided_at >= now() - of_pool.performance_window
        WHERE m.tenant = of_pool.tenant AND m.pool = of_pool.name
        GROUP BY m.rep
    ), average AS (
        SELECT (sum(h.won) + 1)::double precision / (sum(h.closes) + 2) AS conversion,
            exp(sum(ln(h.speed + 60) * h.touches) / nullif(sum(h.touches) FILTER (WHERE h.speed IS NOT NULL), 0)) AS speed
        FROM history h
    ), factor AS (
        SELECT h.*, (h.won + 20 * v.conversion) / (h.closes + 20) / v.conversion
            * coalesce(sqrt(v.speed / exp((coalesce(ln(h.speed + 60) * h.touches, 0) + 20 * ln(v.speed)) / (h.touches + 20))), 1)
            AS factor
        FROM history h CROSS JOIN average v
    )
    SELECT f.rep, greatest(1 / of_pool.performance_bound, least(of_pool.performance_bound,
            f.factor / avg(f.factor) OVER ()))::double precision,
        f.closes, f.won, f.touches, f.speed * interval '1 s'
    FROM factor f
$$;
COMMENT ON FUNCTION leadroute._performance(leadroute.pool) IS
    'What the members of a pool made of the leads of its window, and the weights that follow: the share of closed leads that were won against the pool''s, times the square root of the pool''s time to the first touch against the member''s (a minute more each); each as if 20 average leads had come besides; divided by the pool''s mean, and within performance_bound.';

CREATE FUNCTION leadroute._refresh_pool(of_pool leadroute.pool) RETURNS bigint
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM leadroute.performance f
    WHERE f.tenant = of_pool.tenant AND f.pool = of_pool.id AND NOT EXISTS (
        SELECT FROM leadroute.pool_member m WHERE m.tenant = f.tenant AND m.pool = of_pool.name AND m.rep = f.rep);
    -- a change that nobody would see is not worth laying the pool out anew
    WITH refreshed AS (
        INSERT INTO leadroute.performance AS f (tenant, pool, rep, weight, closes, won, touches, median_speed)
        SELECT of_pool.tenant, of_pool.id, n.rep, n.weight, n.closes, n.won, n.touches, n.median_speed
        FROM leadroute._performance(of_pool) n ORDER BY n.rep
        ON CONFLICT ON CONSTRAINT performance_pkey DO UPDATE SET
            weight = CASE WHEN abs(f.weight - excluded.weight) > 0.005 * f.weight THEN excluded.weight ELSE f.weight END,
            closes = excluded.closes, won = excluded.won, touches = excluded.touches,
            median_speed = excluded.median_speed, refreshed_at = clock_timestamp()
        RETURNING f.rep, f.weight)
    SELECT count(*) FROM refreshed r LEFT JOIN leadroute.performance was
        ON was.tenant = of_pool.tenant AND was.pool = of_pool.id AND was.rep = r.rep
    WHERE was.weight IS DISTINCT FROM r.weight
$$;
COMMENT ON FUNCTION leadroute._refresh_pool(leadroute.pool) IS
    'Weighs the members of a pool anew, and forgets who is none any more; gives how many weights changed.';

CREATE FUNCTION leadroute._refresh_due(of_tenants bigint[], after jsonb) RETURNS jsonb
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_pool leadroute.pool;
BEGIN
    -- one that another sweep is at, or somebody edits, is left to it
    SELECT p.* INTO of_pool FROM leadroute.pool p
    WHERE p.method = 'performance' AND (of_tenants IS NULL OR p.tenant = ANY (of_tenants))
      AND (after IS NULL OR (p.tenant, p.id) > ((after -> 0)::bigint, (after -> 1)::integer))
      AND (EXISTS (SELECT FROM leadroute.pool_member m WHERE m.tenant = p.tenant AND m.pool = p.name)
        OR EXISTS (SELECT FROM leadroute.performance f WHERE f.tenant = p.tenant AND f.pool = p.id))
      AND NOT EXISTS (SELECT FROM leadroute.performance f WHERE f.tenant = p.tenant AND f.pool = p.id
          AND f.refreshed_at BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp())
    ORDER BY p.tenant, p.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    BEGIN
        PERFORM leadroute._refresh_pool(of_pool);
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING USING MESSAGE = format('the weights of pool "%s" stay as they are: %s', of_pool.name, SQLERRM),
            ERRCODE = SQLSTATE, DETAIL = format('It is one of tenant %s. The other pools are weighed all the same.', of_pool.tenant),
            HINT = 'SELECT leadroute.refresh_performance() shows where it fails.';
    END;
    RETURN jsonb_build_array(of_pool.tenant, of_pool.id);
END
$$;
COMMENT ON FUNCTION leadroute._refresh_due(bigint[], jsonb) IS
    'Weighs the members of one pool with the method performance anew: the next one of these tenants (NULL: all) after a place that was not weighed within the last hour. Gives its place, NULL where there is none. An error is a warning.';

CREATE FUNCTION leadroute._refresh_performance_for(caller name, pool text, tenant bigint) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_pool leadroute.pool;
    changed bigint := 0;
    problem text[];
BEGIN
    PERFORM leadroute._require_for(caller, tenant, '{app}');
    problem := leadroute._missing('pool', tenant, pool, 'refresh_performance() was asked for it');
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    FOR of_pool IN
        SELECT p.* FROM leadroute.pool p
        WHERE p.tenant = _refresh_performance_for.tenant AND p.method = 'performance'
          AND p.name = coalesce(_refresh_performance_for.pool, p.name)
        ORDER BY p.id
    LOOP
        changed := changed + leadroute._refresh_pool(of_pool);
    END LOOP;
    -- of pools and methods that are no more
    DELETE FROM leadroute.performance f
    WHERE f.tenant = _refresh_performance_for.tenant AND NOT EXISTS (
        SELECT FROM leadroute.pool p WHERE p.tenant = f.tenant AND p.id = f.pool AND p.method = 'performance');
    RETURN changed;
END
$$;
COMMENT ON FUNCTION leadroute._refresh_performance_for(name, text, bigint) IS 'refresh_performance() of a role.';

CREATE FUNCTION leadroute.refresh_performance(pool text DEFAULT NULL, tenant bigint DEFAULT 0) RETURNS bigint
    LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.refresh_performance(text, bigint) IS
    'Weighs the members of a pool with the method performance anew, or of all such pools of the tenant, by what became of the leads that they had within pool.performance_window; returns how many weights changed. Members'' deficits stay. Rows of leadroute.performance are locked until the end of the transaction. Takes the level app. Raises LR008 for a pool that does not exist, LR012.';
