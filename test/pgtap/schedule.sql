-- schedule_sweep() where there is no pg_cron; with it: test/t/125_pg_cron.pl.
BEGIN;
SELECT plan(6);
SELECT throws_ok('SELECT leadroute.schedule_sweep()', 'LR005', 'pg_cron does not run in this server', 'it cannot be scheduled');
SELECT throws_ok('SELECT leadroute.unschedule_sweep()', 'LR005', 'pg_cron does not run in this server', 'nor ended');
CREATE FUNCTION pg_temp.hint(sql text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    hint text;
BEGIN
    EXECUTE sql;
    RETURN NULL;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
    RETURN hint;
END $$;
SELECT matches(pg_temp.hint('SELECT leadroute.schedule_sweep()'), 'postgresql-\d+-cron.*shared_preload_libraries.*cron.database_name = ''pgtap_schedule''.*CREATE EXTENSION pg_cron', 'what to install');
SELECT matches(pg_temp.hint('SELECT leadroute.schedule_sweep()'), 'psql -d pgtap_schedule -c ''CALL leadroute.sweep\(\)''', 'or what else to call');
SELECT set_config('cron.database_name', 'elsewhere', true) \g /dev/null
SELECT matches(pg_temp.hint('SELECT leadroute.schedule_sweep(''0 * * * *'')'), 'In database "elsewhere".*SELECT cron.schedule_in_database\(''leadroute sweep pgtap_schedule'', ''0 \* \* \* \*'', ''CALL leadroute.sweep\(\)'', ''pgtap_schedule''\);$', 'what to run in pg_cron''s database');
SELECT is(pg_temp.hint('SELECT leadroute.unschedule_sweep()'), 'In database "elsewhere", as a superuser: SELECT cron.unschedule(''leadroute sweep pgtap_schedule'');', 'and to end it');
SELECT * FROM finish();
ROLLBACK;
