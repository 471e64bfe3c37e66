-- What is told of policies that hardly anybody means, and not refused.
CREATE EXTENSION leadroute;
\set SHOW_CONTEXT never
INSERT INTO leadroute.calendar (name) VALUES ('office');
INSERT INTO leadroute.pool (name) VALUES ('bin');

INSERT INTO leadroute.sla_policy (name, first_touch) VALUES ('gold', '1 hour');
INSERT INTO leadroute.sla_policy (name, first_touch, on_breach) VALUES ('nowhere', '1 hour', 'recycle');
INSERT INTO leadroute.sla_policy (name, first_touch, business_time, calendar) VALUES ('never', '1 hour', true, 'office');
INSERT INTO leadroute.sla_policy (name, first_touch, on_breach, recycle_pool) VALUES ('sort', '1 hour', 'recycle', 'bin'), ('stay', '1 hour', 'shark_tank', NULL), ('none', '1 hour', NULL, NULL);

-- before the breach, and where leads stay
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('gold', 0.5, 'remind'), ('stay', 2, 'reroute'), ('none', 3, 'escalate'), ('nowhere', 1, 'escalate');
-- after it
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('gold', 1, 'notify_manager');
INSERT INTO leadroute.sla_step (policy, after, action) VALUES ('sort', '2 hours', 'escalate');
-- to nowhere, and somewhere
INSERT INTO leadroute.sla_step (policy, share, action) VALUES ('none', 2, 'recycle');
INSERT INTO leadroute.sla_step (policy, share, action, pool) VALUES ('none', 4, 'recycle', 'bin');

-- changes: those that matter
UPDATE leadroute.sla_policy SET first_touch = '30 minutes' WHERE name IN ('sort', 'never');
UPDATE leadroute.sla_policy SET max_hops = 2;
UPDATE leadroute.sla_policy SET on_breach = 'reroute' WHERE name = 'stay';
UPDATE leadroute.sla_policy SET recycle_pool = 'bin' WHERE name IN ('none', 'nowhere');
INSERT INTO leadroute.calendar_hours (calendar, weekday, opens, closes) VALUES ('office', 1, '9:00', '17:00');
UPDATE leadroute.sla_policy SET first_touch = '1 hour' WHERE name = 'never';
UPDATE leadroute.sla_step SET share = 0.9 WHERE policy = 'gold';
DROP EXTENSION leadroute;
