-- STATE, continued: when reps are available. As for tables.sql, only upgrade steps change this file's
-- objects. What is here besides rep and pool is read into memory when a tenant is loaded
-- (src/pg/availability.h).

CREATE TABLE leadroute.calendar (
    tenant bigint NOT NULL DEFAULT 0,
    name text NOT NULL,
    timezone text,
    version integer,
    changed_at timestamptz,
    PRIMARY KEY (tenant, name),
    CONSTRAINT calendar_name_check CHECK (btrim(name) <> '')
);

COMMENT ON TABLE leadroute.calendar IS 'Working hours that reps share: weekly hours and holidays.';
COMMENT ON COLUMN leadroute.calendar.tenant IS 'The company the calendar belongs to.';
COMMENT ON COLUMN leadroute.calendar.name IS 'What rep.calendar refers to; renaming is followed there.';
COMMENT ON COLUMN leadroute.calendar.timezone IS 'Time zone by full name whose clock shows the hours; NULL: that of each rep.';
COMMENT ON COLUMN leadroute.calendar.version IS 'Counts the row''s changes, from 1; set by leadroute.';
COMMENT ON COLUMN leadroute.calendar.changed_at IS 'Start of the transaction that changed the row last.';

CREATE TABLE leadroute.calendar_hours (
    tenant bigint NOT NULL DEFAULT 0,
    calendar text NOT NULL,
    weekday integer NOT NULL,
    opens time NOT NULL,
    closes time NOT NULL,
    version integer,
    changed_at timestamptz,
    PRIMARY KEY (tenant, calendar, weekday, opens),
    FOREIGN KEY (tenant, calendar) REFERENCES leadroute.calendar (tenant, name) DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT calendar_hours_weekday_check CHECK (weekday BETWEEN 1 AND 7),
    CONSTRAINT calendar_hours_span_check CHECK (opens <> closes AND opens < '24:00')
);

COMMENT ON TABLE leadroute.calendar_hours IS
    'The hours of a calendar, one row for each span that begins on a day of the week. A day may have several; those that overlap count as one. A day without a row is free.';
COMMENT ON COLUMN leadroute.calendar_hours.tenant IS 'The company the calendar belongs to.';
COMMENT ON COLUMN leadroute.calendar_hours.calendar IS 'The calendar, by name.';
COMMENT ON COLUMN leadroute.calendar_hours.weekday IS 'The day on which the span begins: 1 is Monday, 7 is Sunday.';
COMMENT ON COLUMN leadroute.calendar_hours.opens IS 'When the wall clock shows this, the span begins.';
COMMENT ON COLUMN leadroute.calendar_hours.closes IS 'When it shows this, the span is over; at most 24:00. Before opens: on the next day.';
COMMENT ON COLUMN leadroute.calendar_hours.version IS 'Counts the row''s changes, from 1; set by leadroute.';
COMMENT ON COLUMN leadroute.calendar_hours.changed_at IS 'Start of the transaction that changed the row last.';

CREATE TABLE leadroute.calendar_holiday (
    tenant bigint NOT NULL DEFAULT 0,
    calendar text NOT NULL,
    day date NOT NULL,
    name text,
    version integer,
    changed_at timestamptz,
    PRIMARY KEY (tenant, calendar, day),
    FOREIGN KEY (tenant, calendar) REFERENCES leadroute.calendar (tenant, name) DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT calendar_holiday_day_check CHECK (isfinite(day))
);

COMMENT ON TABLE leadroute.calendar_holiday IS
    'Days on which no span of a calendar begins. One that began the evening before goes on to its end.';
COMMENT ON COLUMN leadroute.calendar_holiday.tenant IS 'The company the calendar belongs to.';
COMMENT ON COLUMN leadroute.calendar_holiday.calendar IS 'The calendar, by name.';
COMMENT ON COLUMN leadroute.calendar_holiday.day IS 'The date, in the zone whose clock shows the calendar''s hours.';
COMMENT ON COLUMN leadroute.calendar_holiday.name IS 'What people call it.';
COMMENT ON COLUMN leadroute.calendar_holiday.version IS 'Counts the row''s changes, from 1; set by leadroute.';
COMMENT ON COLUMN leadroute.calendar_holiday.changed_at IS 'Start of the transaction that changed the row last.';

CREATE TABLE leadroute.rep_absence (
    tenant bigint NOT NULL DEFAULT 0,
    rep bigint NOT NULL,
    during tstzrange NOT NULL,
    reason text,
    version integer,
    changed_at timestamptz,
    PRIMARY KEY (tenant, rep, during),
    FOREIGN KEY (tenant, rep) REFERENCES leadroute.rep (tenant, id) DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT rep_absence_during_check CHECK (NOT isempty(during))
);

COMMENT ON TABLE leadroute.rep_absence IS
    'Leave, illness and whatever else keeps a rep from receiving leads, in any number; spans may overlap.';
COMMENT ON COLUMN leadroute.rep_absence.tenant IS 'The company the rep works for.';
COMMENT ON COLUMN leadroute.rep_absence.rep IS 'The rep, by id.';
COMMENT ON COLUMN leadroute.rep_absence.during IS 'From when to when; an open end is without end.';
COMMENT ON COLUMN leadroute.rep_absence.reason IS 'Free text.';
COMMENT ON COLUMN leadroute.rep_absence.version IS 'Counts the row''s changes, from 1; set by leadroute.';
COMMENT ON COLUMN leadroute.rep_absence.changed_at IS 'Start of the transaction that changed the row last.';

-- No configuration: written by sign_in(), sign_out() and heartbeat() alone.
CREATE TABLE leadroute.presence (
    tenant bigint NOT NULL DEFAULT 0,
    rep bigint NOT NULL,
    signed_in_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    signed_out_at timestamptz,
    version integer NOT NULL,
    PRIMARY KEY (tenant, rep),
    FOREIGN KEY (tenant, rep) REFERENCES leadroute.rep (tenant, id) DEFERRABLE INITIALLY IMMEDIATE,
    CONSTRAINT presence_version_check CHECK (version > 0)
);

COMMENT ON TABLE leadroute.presence IS 'Reps who have ever signed in; pools with presence_required go by it.';
COMMENT ON COLUMN leadroute.presence.tenant IS 'The company the rep works for.';
COMMENT ON COLUMN leadroute.presence.rep IS 'The rep, by id.';
COMMENT ON COLUMN leadroute.presence.signed_in_at IS 'When the rep signed in last.';
COMMENT ON COLUMN leadroute.presence.seen_at IS 'When the rep was heard of, as of a minute ago: memory knows exactly.';
COMMENT ON COLUMN leadroute.presence.signed_out_at IS 'When the rep signed out since; NULL while signed in, and for one who just fell silent.';
COMMENT ON COLUMN leadroute.presence.version IS 'Counts sign-ins and sign-outs, from 1.';

ALTER TABLE leadroute.rep
    ADD FOREIGN KEY (tenant, calendar) REFERENCES leadroute.calendar (tenant, name) DEFERRABLE INITIALLY IMMEDIATE;
CREATE INDEX rep_calendar ON leadroute.rep (tenant, calendar) WHERE calendar IS NOT NULL;
COMMENT ON INDEX leadroute.rep_calendar IS 'Finds the reps of a calendar, for the foreign key and for loading.';

ALTER TABLE leadroute.calendar ENABLE ROW LEVEL SECURITY;
ALTER TABLE leadroute.calendar_hours ENABLE ROW LEVEL SECURITY;
ALTER TABLE leadroute.calendar_holiday ENABLE ROW LEVEL SECURITY;
ALTER TABLE leadroute.rep_absence ENABLE ROW LEVEL SECURITY;
ALTER TABLE leadroute.presence ENABLE ROW LEVEL SECURITY;

SELECT pg_extension_config_dump('leadroute.calendar', '');
SELECT pg_extension_config_dump('leadroute.calendar_hours', '');
SELECT pg_extension_config_dump('leadroute.calendar_holiday', '');
SELECT pg_extension_config_dump('leadroute.rep_absence', '');
SELECT pg_extension_config_dump('leadroute.presence', '');
