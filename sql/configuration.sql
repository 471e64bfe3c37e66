-- What the tables of configuration have in common: triggers that let memory follow (route.sql), keep
-- the history (history.sql) and rest in a restore (restore.sql).
--
-- Triggers fire in the order of their names. z_version comes after those that change or refuse the
-- row. A row that brought its version was not changed in this transaction: not logged. ALWAYS: also for
-- rows that logical replication applies, or a restore brings without other triggers.
DO $$
DECLARE
    t record;
    logged text;
BEGIN
    FOR t IN SELECT * FROM (VALUES
        -- the columns that tell which row in the history (NULL: another one, or none), whether memory
        -- follows by _config_changed(), and whether rows of a restore may come before what they refer to
        ('rep', '{id}', true, true),
        ('pool', '{id}', true, true),
        ('pool_member', '{pool,rep}', true, true),
        ('lead_table', '{id}', true, false),
        ('rule', '{id}', true, true),
        ('access', '{role}', false, false),
        ('territory', '{name}', true, true),
        ('territory_entry', NULL::text[], false, true),
        ('calendar', '{name}', true, false),
        ('calendar_hours', '{calendar,weekday,opens}', true, true),
        ('calendar_holiday', '{calendar,day}', true, true),
        ('rep_absence', '{rep,during}', true, true),
        ('sla_policy', '{id}', true, true),
        ('sla_step', '{id}', true, true),
        ('presence', NULL, false, true)) AS v (name, key, followed, restored)
    LOOP
        IF t.followed THEN
            EXECUTE format($sql$
                CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON leadroute.%1$I
                    FOR EACH ROW EXECUTE FUNCTION leadroute._config_changed();
                CREATE TRIGGER config_truncated AFTER TRUNCATE ON leadroute.%1$I
                    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._config_truncated();
                ALTER TABLE leadroute.%1$I ENABLE ALWAYS TRIGGER config_changed;
                ALTER TABLE leadroute.%1$I ENABLE ALWAYS TRIGGER config_truncated;
                $sql$, t.name);
        END IF;
        IF t.key IS NOT NULL THEN
            -- the record names versions of rules: those of an id that comes back go on
            logged := (SELECT format('EXECUTE FUNCTION leadroute._log_change(%s)', string_agg(quote_literal(k), ', '))
                FROM unnest(t.key) k);
            EXECUTE format($sql$
                CREATE TRIGGER z_version BEFORE INSERT OR UPDATE ON leadroute.%1$I
                    FOR EACH ROW EXECUTE FUNCTION leadroute._stamp(%3$s);
                CREATE TRIGGER history_inserted AFTER INSERT ON leadroute.%1$I
                    FOR EACH ROW WHEN (NEW.changed_at = now()) %2$s;
                CREATE TRIGGER history_updated AFTER UPDATE ON leadroute.%1$I
                    FOR EACH ROW WHEN (NEW.version IS DISTINCT FROM OLD.version) %2$s;
                CREATE TRIGGER history_deleted AFTER DELETE ON leadroute.%1$I FOR EACH ROW %2$s;
                CREATE TRIGGER history_truncated BEFORE TRUNCATE ON leadroute.%1$I FOR EACH STATEMENT %2$s;
                $sql$, t.name, logged, CASE WHEN t.name = 'rule' THEN quote_literal('id') ELSE '' END);
        END IF;
        IF t.restored THEN
            EXECUTE format($sql$
                CREATE TRIGGER a_restore BEFORE INSERT ON leadroute.%1$I
                    FOR EACH STATEMENT WHEN (leadroute._restoring()) EXECUTE FUNCTION leadroute._rest_triggers();
                CREATE TRIGGER z_restore AFTER INSERT ON leadroute.%1$I
                    FOR EACH STATEMENT WHEN (leadroute._restoring()) EXECUTE FUNCTION leadroute._rest_triggers();
                ALTER TABLE leadroute.%1$I ENABLE ALWAYS TRIGGER a_restore;
                ALTER TABLE leadroute.%1$I ENABLE ALWAYS TRIGGER z_restore;
                $sql$, t.name);
        END IF;
    END LOOP;
END
$$;
