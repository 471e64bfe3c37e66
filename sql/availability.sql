-- Availability: checks, references, history and access of calendars, absences and presence; signing
-- in and out. The tables: tables_availability.sql.

-- Values ----------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._check_calendar() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text[];
BEGIN
    problem := CASE
        WHEN leadroute._name_problem(NEW.name, 63) IS NOT NULL THEN ARRAY[
            format('the name of the calendar %s', leadroute._name_problem(NEW.name, 63)),
            'Reps refer to a calendar by its name.', 'Give a name of 1 to 63 characters.']
        WHEN TG_OP = 'UPDATE' AND NEW.tenant IS DISTINCT FROM OLD.tenant THEN ARRAY[
            format('calendar "%s" cannot change its tenant', OLD.name), 'Reps refer to it.', 'Insert another calendar.']
        WHEN NEW.timezone IS NOT NULL AND NOT leadroute._is_time_zone(NEW.timezone) THEN ARRAY[
            format('unknown time zone "%s"', NEW.timezone), format('It was given for calendar "%s".', NEW.name),
            'Use a full name such as Europe/London, which pg_timezone_names lists; or NULL for that of each rep.']
        WHEN NOT leadroute._on_conflict() AND (TG_OP = 'INSERT' OR NEW.name <> OLD.name) AND EXISTS (
            SELECT FROM leadroute.calendar c WHERE c.tenant = NEW.tenant AND c.name = NEW.name) THEN ARRAY[
            format('another calendar is called "%s"', NEW.name), 'Names are unique within a tenant.', 'Give another name.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_calendar() IS 'Refuses (LR005) a calendar with a wrong value.';

CREATE FUNCTION leadroute._check_calendar_hours() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text[];
BEGIN
    problem := CASE
        WHEN NEW.calendar IS NULL OR NEW.opens IS NULL OR NEW.closes IS NULL THEN ARRAY[
            format('hours need %s', CASE WHEN NEW.calendar IS NULL THEN 'a calendar' WHEN NEW.opens IS NULL
                THEN 'a time to open' ELSE 'a time to close' END),
            'A row of calendar_hours says from when to when a calendar is open.', 'Give both times; 24:00 is the end of a day.']
        WHEN NEW.weekday IS NULL OR NEW.weekday NOT BETWEEN 1 AND 7 THEN ARRAY[
            format('weekday %s is not 1 to 7', coalesce(NEW.weekday::text, 'NULL')),
            format('It was given for calendar "%s".', NEW.calendar), '1 is Monday, 7 is Sunday.']
        WHEN NEW.opens = '24:00' THEN ARRAY[
            'hours cannot begin at 24:00', format('They were given for calendar "%s".', NEW.calendar),
            'Begin at 00:00 of the next day.']
        WHEN NEW.opens = NEW.closes THEN ARRAY[
            format('hours from %s to %s are empty', to_char(NEW.opens, 'HH24:MI'), to_char(NEW.closes, 'HH24:MI')),
            format('They were given for calendar "%s".', NEW.calendar),
            'For a whole day give 00:00 to 24:00; for a day off no row.']
        WHEN NOT leadroute._on_conflict()
            AND (TG_OP = 'INSERT' OR (NEW.tenant, NEW.calendar, NEW.weekday, NEW.opens) <> (OLD.tenant, OLD.calendar, OLD.weekday, OLD.opens))
            AND EXISTS (SELECT FROM leadroute.calendar_hours h
                WHERE (h.tenant, h.calendar, h.weekday, h.opens) = (NEW.tenant, NEW.calendar, NEW.weekday, NEW.opens)) THEN ARRAY[
            format('calendar "%s" opens at %s on weekday %s already', NEW.calendar, to_char(NEW.opens, 'HH24:MI'), NEW.weekday),
            'One row says until when.', 'Update its closes instead.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_calendar_hours() IS 'Refuses (LR005) hours with a wrong value.';

CREATE FUNCTION leadroute._check_calendar_holiday() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text[];
BEGIN
    problem := CASE
        WHEN NEW.calendar IS NULL OR NEW.day IS NULL OR NOT isfinite(NEW.day) THEN ARRAY[
            format('a holiday needs %s', CASE WHEN NEW.calendar IS NULL THEN 'a calendar' ELSE 'a day' END),
            'A row of calendar_holiday says on which date a calendar''s hours do not begin.', 'Give the date.']
        WHEN NOT leadroute._on_conflict()
            AND (TG_OP = 'INSERT' OR (NEW.tenant, NEW.calendar, NEW.day) <> (OLD.tenant, OLD.calendar, OLD.day))
            AND EXISTS (SELECT FROM leadroute.calendar_holiday h
                WHERE (h.tenant, h.calendar, h.day) = (NEW.tenant, NEW.calendar, NEW.day)) THEN ARRAY[
            format('%s is a holiday of calendar "%s" already', NEW.day, NEW.calendar), 'A day is free once.',
            'Leave it out, or INSERT ... ON CONFLICT DO NOTHING.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_calendar_holiday() IS 'Refuses (LR005) a holiday with a wrong value.';

CREATE FUNCTION leadroute._check_rep_absence() RETURNS trigger
    LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text[];
BEGIN
    problem := CASE
        WHEN NEW.rep IS NULL OR NEW.during IS NULL THEN ARRAY[
            format('an absence needs %s', CASE WHEN NEW.rep IS NULL THEN 'a rep' ELSE 'a time' END),
            'A row of rep_absence says who is away, from when to when.',
            'Give a range such as tstzrange(''2026-08-01'', ''2026-08-15'').']
        WHEN isempty(NEW.during) OR lower(NEW.during) = 'infinity' OR upper(NEW.during) = '-infinity' THEN ARRAY[
            format('the absence of rep %s has no time in it', NEW.rep), format('Its time is %s.', NEW.during),
            'Give a range such as tstzrange(''2026-08-01'', ''2026-08-15'').']
        WHEN NOT leadroute._on_conflict()
            AND (TG_OP = 'INSERT' OR (NEW.tenant, NEW.rep, NEW.during) <> (OLD.tenant, OLD.rep, OLD.during))
            AND EXISTS (SELECT FROM leadroute.rep_absence a
                WHERE (a.tenant, a.rep, a.during) = (NEW.tenant, NEW.rep, NEW.during)) THEN ARRAY[
            format('rep %s is absent in %s already', NEW.rep, NEW.during), 'The same absence counts once.',
            'Update its reason instead.']
    END;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR005', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION leadroute._check_rep_absence() IS 'Refuses (LR005) an absence with a wrong value.';

CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.calendar
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_calendar();
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.calendar_hours
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_calendar_hours();
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.calendar_holiday
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_calendar_holiday();
CREATE TRIGGER a_check BEFORE INSERT OR UPDATE ON leadroute.rep_absence
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_rep_absence();

-- References ------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._check_availability_references() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem text[];
BEGIN
    CASE TG_TABLE_NAME
    WHEN 'rep' THEN
        problem := leadroute._missing('calendar', NEW.tenant, NEW.calendar, format('Rep %s names it', NEW.id));
    WHEN 'rep_absence' THEN
        problem := leadroute._missing('rep', NEW.tenant, NEW.rep::text, 'An absence names it');
    ELSE
        problem := leadroute._missing('calendar', NEW.tenant, NEW.calendar, format('A row of %s names it', TG_TABLE_NAME));
    END CASE;
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = problem[1], DETAIL = problem[2], HINT = problem[3];
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_availability_references() IS
    'Refuses (LR008) a calendar or rep that does not exist.';
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.calendar_hours
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_availability_references();
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.calendar_holiday
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_availability_references();
CREATE TRIGGER "0_references" AFTER INSERT OR UPDATE ON leadroute.rep_absence
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_availability_references();
CREATE TRIGGER "0_references_calendar" AFTER INSERT OR UPDATE OF calendar ON leadroute.rep
    FOR EACH ROW WHEN (NEW.calendar IS NOT NULL) EXECUTE FUNCTION leadroute._check_availability_references();

CREATE FUNCTION leadroute._check_calendar_unused() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    users text;
BEGIN
    SELECT string_agg(u.user_name, ', ') INTO users FROM (
        (SELECT format('rep %s', r.id) FROM leadroute.rep r
         WHERE r.tenant = OLD.tenant AND r.calendar = OLD.name ORDER BY r.id LIMIT 10)
        UNION ALL
        (SELECT format('policy "%s"', s.name) FROM leadroute.sla_policy s
         WHERE s.tenant = OLD.tenant AND s.calendar = OLD.name ORDER BY s.name LIMIT 10)) u (user_name);
    IF users IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR006',
            MESSAGE = format('calendar "%s" is in use', OLD.name), DETAIL = format('By %s.', users),
            HINT = 'Give those another calendar, or none.';
    END IF;
    DELETE FROM leadroute.calendar_hours h WHERE h.tenant = OLD.tenant AND h.calendar = OLD.name;
    DELETE FROM leadroute.calendar_holiday h WHERE h.tenant = OLD.tenant AND h.calendar = OLD.name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._check_calendar_unused() IS
    'Refuses (LR006) to delete a calendar that reps or policies use; takes its hours and holidays along.';
CREATE TRIGGER "0_unused" AFTER DELETE ON leadroute.calendar
    FOR EACH ROW EXECUTE FUNCTION leadroute._check_calendar_unused();

CREATE FUNCTION leadroute._follow_calendar() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leadroute.calendar_hours h SET calendar = NEW.name WHERE h.tenant = NEW.tenant AND h.calendar = OLD.name;
    UPDATE leadroute.calendar_holiday h SET calendar = NEW.name WHERE h.tenant = NEW.tenant AND h.calendar = OLD.name;
    UPDATE leadroute.rep r SET calendar = NEW.name WHERE r.tenant = NEW.tenant AND r.calendar = OLD.name;
    UPDATE leadroute.sla_policy s SET calendar = NEW.name WHERE s.tenant = NEW.tenant AND s.calendar = OLD.name;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._follow_calendar() IS
    'Rewrites the references to a renamed calendar, before the foreign keys look.';
CREATE TRIGGER "0_rename" AFTER UPDATE ON leadroute.calendar
    FOR EACH ROW WHEN (OLD.name <> NEW.name) EXECUTE FUNCTION leadroute._follow_calendar();

CREATE FUNCTION leadroute._take_along() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM leadroute.rep_absence a WHERE a.tenant = OLD.tenant AND a.rep = OLD.id;
    DELETE FROM leadroute.presence p WHERE p.tenant = OLD.tenant AND p.rep = OLD.id;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION leadroute._take_along() IS
    'Takes along the absences and the presence of a rep who is deleted, before the foreign keys look.';
-- after 0_unused, which may refuse
CREATE TRIGGER "1_take_along" AFTER DELETE ON leadroute.rep
    FOR EACH ROW EXECUTE FUNCTION leadroute._take_along();

-- Presence in memory ----------------------------------------------------------------------------

CREATE FUNCTION leadroute._presence_changed() RETURNS trigger
    LANGUAGE c AS 'MODULE_PATHNAME', 'leadroute_presence_changed';
COMMENT ON FUNCTION leadroute._presence_changed() IS
    'Lets memory follow who has signed in or out, at commit. A heartbeat tells it itself.';
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE ON leadroute.presence
    FOR EACH ROW EXECUTE FUNCTION leadroute._presence_changed();
CREATE TRIGGER config_truncated AFTER TRUNCATE ON leadroute.presence
    FOR EACH STATEMENT EXECUTE FUNCTION leadroute._config_truncated();
ALTER TABLE leadroute.presence ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE leadroute.presence ENABLE ALWAYS TRIGGER config_truncated;

-- Access ----------------------------------------------------------------------------------------

CREATE POLICY admin ON leadroute.calendar USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.calendar_hours USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.calendar_holiday USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.rep_absence USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));
CREATE POLICY admin ON leadroute.presence USING ((SELECT leadroute._everywhere('{admin}'))
    OR tenant = ANY ((SELECT leadroute._my_tenants('{admin}'))::bigint[]));

-- Presence --------------------------------------------------------------------------------------

CREATE FUNCTION leadroute._hear(tenant bigint, rep bigint) RETURNS integer
    LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'leadroute_hear';
COMMENT ON FUNCTION leadroute._hear(bigint, bigint) IS
    'Notes a heartbeat in memory. 0: done; 1: and presence.seen_at is to be written; 2: the rep is signed out; 3: it was silent for too long.';

CREATE FUNCTION leadroute._require_known_rep(caller name, rep bigint, tenant bigint) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    problem CONSTANT text[] := leadroute._missing('rep', tenant, rep::text, 'It was to sign in or out, or was heard of');
BEGIN
    PERFORM leadroute._require_rep_for(caller, tenant, rep);
    IF problem IS NOT NULL OR rep IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LR008', MESSAGE = coalesce(problem[1], 'no rep is named'),
            DETAIL = coalesce(problem[2], 'A rep signs in, signs out or is heard of.'),
            HINT = coalesce(problem[3], 'Give the id of a rep.');
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._require_known_rep(name, bigint, bigint) IS
    'Raises LR012 unless the caller may act for the rep, LR008 when there is no such rep.';

CREATE FUNCTION leadroute._sign_in_for(caller name, rep bigint, tenant bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    moment CONSTANT timestamptz := clock_timestamp();
BEGIN
    PERFORM leadroute._require_known_rep(caller, rep, tenant);
    INSERT INTO leadroute.presence AS p (tenant, rep, signed_in_at, seen_at, version)
    VALUES (tenant, rep, moment, moment, 1)
    ON CONFLICT ON CONSTRAINT presence_pkey DO UPDATE
    SET signed_in_at = moment, seen_at = moment, signed_out_at = NULL, version = p.version + 1;
    -- Here the rep has become available, to this transaction; to others when it commits.
END
$$;
COMMENT ON FUNCTION leadroute._sign_in_for(name, bigint, bigint) IS 'sign_in() of a role.';
CREATE FUNCTION leadroute.sign_in(rep bigint, tenant bigint DEFAULT 0) RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.sign_in(bigint, bigint) IS
    'The rep is there from now on, until sign_out() or until not heard of for leadroute.presence_timeout. Takes effect for others at commit. A rep for itself, a manager for its reps and pool members, app and admin for all. LR008: no such rep; LR012: not allowed. Waits for another sign-in or sign-out of the same rep that is not committed.';

CREATE FUNCTION leadroute._sign_out_for(caller name, rep bigint, tenant bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leadroute._require_known_rep(caller, rep, tenant);
    UPDATE leadroute.presence p SET signed_out_at = clock_timestamp(), version = p.version + 1
    WHERE p.tenant = _sign_out_for.tenant AND p.rep = _sign_out_for.rep AND p.signed_out_at IS NULL;
END
$$;
COMMENT ON FUNCTION leadroute._sign_out_for(name, bigint, bigint) IS 'sign_out() of a role.';
CREATE FUNCTION leadroute.sign_out(rep bigint, tenant bigint DEFAULT 0) RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.sign_out(bigint, bigint) IS
    'The rep receives nothing more from pools with presence_required; its leads stay with it. Does nothing for one who is signed out. Rights, errors and waiting as for sign_in().';

CREATE FUNCTION leadroute._heartbeat_for(caller name, rep bigint, tenant bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    heard integer;
BEGIN
    PERFORM leadroute._require_known_rep(caller, rep, tenant);
    heard := leadroute._hear(tenant, rep);
    IF heard IN (2, 3) THEN
        RAISE EXCEPTION USING ERRCODE = 'LR010', MESSAGE = format('rep %s is not signed in', rep),
            DETAIL = CASE heard WHEN 2 THEN 'A heartbeat only keeps a rep signed in.'
                ELSE format('It was not heard of for %s, so it counts as signed out.', current_setting('leadroute.presence_timeout')) END,
            HINT = format('SELECT leadroute.sign_in(%s%s);', rep, CASE WHEN tenant = 0 THEN '' ELSE ', ' || tenant END);
    ELSIF heard = 1 THEN
        -- whoever else is writing the row does as well
        UPDATE leadroute.presence p SET seen_at = greatest(p.seen_at, clock_timestamp())
        WHERE (p.tenant, p.rep) IN (SELECT l.tenant, l.rep FROM leadroute.presence l
            WHERE l.tenant = _heartbeat_for.tenant AND l.rep = _heartbeat_for.rep FOR NO KEY UPDATE SKIP LOCKED);
    END IF;
END
$$;
COMMENT ON FUNCTION leadroute._heartbeat_for(name, bigint, bigint) IS 'heartbeat() of a role.';
CREATE FUNCTION leadroute.heartbeat(rep bigint, tenant bigint DEFAULT 0) RETURNS void
    LANGUAGE c VOLATILE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'leadroute_for_caller';
COMMENT ON FUNCTION leadroute.heartbeat(bigint, bigint) IS
    'The rep is still there. Kept in memory at once, whether or not the transaction commits; written to disk once a minute at most. Call it every minute or so, at least twice within leadroute.presence_timeout. LR010: the rep is not signed in, or has been silent for too long; others as for sign_in(). Waits for nobody.';
