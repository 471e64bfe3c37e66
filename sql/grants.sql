-- Rights. The app needs none but those on its own lead table: triggers run without EXECUTE, and
-- those that write the record run with the rights of its owner. Everything else is for superusers,
-- and for whom grant_access() lets.

REVOKE ALL ON ALL ROUTINES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA leadroute FROM PUBLIC;
REVOKE ALL ON SCHEMA leadroute FROM PUBLIC;

-- The WHENs of triggers are evaluated as whoever writes.
GRANT EXECUTE ON FUNCTION leadroute._after_pending(), leadroute._restoring() TO PUBLIC;
-- So is what the record's indexes are on.
GRANT EXECUTE ON FUNCTION leadroute._place(jsonb, boolean) TO PUBLIC;

-- What the views and why() call, and what the triggers on configuration call, is executed as whoever
-- reads or writes: with his rights on our tables, and the policies, in force. Some only turn their
-- arguments into words, or look at a catalog that everybody may read.
GRANT EXECUTE ON FUNCTION
    leadroute._explanation(bytea), leadroute._status(bigint, text, timestamptz, timestamptz, text, timestamptz),
    leadroute._reason(bigint, text, bytea, jsonb, text), leadroute._tried_pools(bytea),
    leadroute._tried_words(jsonb, jsonb), leadroute._state_counts(jsonb),
    leadroute._state_words(text, integer, integer), leadroute._count_words(text, bigint),
    leadroute._turns(numeric), leadroute._measure(jsonb), leadroute._claim_problem(integer, integer, interval), leadroute._name_problem(text, integer), leadroute._skill_problem(jsonb), leadroute._is_time_zone(text),
    leadroute._check_location_column(leadroute.lead_table, regclass), leadroute._check_value(regclass, text, text, name),
    leadroute._on_conflict(), leadroute._lead_relation(integer), leadroute._lead_key(leadroute.lead_table, text),
    leadroute._require_attached(text), leadroute._missing(text, bigint, text, text),
    leadroute._missing_fallback(leadroute.lead_table), leadroute._users_of(text, bigint, bigint, text),
    leadroute._territory_users(leadroute.territory),
    leadroute._sla_time_problem(interval, boolean), leadroute._sla_policy_users(leadroute.sla_policy),
    leadroute._sla_advice(leadroute.sla_policy, bigint),
    leadroute._pool_name(integer, bigint), leadroute._rep_name(bigint, bigint), leadroute._rule_name(bigint, bigint),
    leadroute._pool_names(bytea, bigint), leadroute._origin(leadroute.assignment),
    leadroute._require_episode(text, text, integer, bigint),
    leadroute._why(leadroute.assignment), leadroute._why_json(leadroute.assignment),
    leadroute._candidate_words(jsonb), leadroute._missed_words(bigint, integer, text, integer, text, integer),
    leadroute._ended_words(text, integer, bigint),
    leadroute._why_candidate(jsonb, bigint), leadroute._why_tried(jsonb, jsonb, bigint),
    leadroute._require_restorable(leadroute.rule[], timestamptz), leadroute._rule_content(leadroute.rule, boolean),
    leadroute._write_rules(leadroute.rule[], boolean), leadroute._rule_version(leadroute.assignment),
    leadroute._why_given(leadroute.assignment, jsonb, text), leadroute._why_result(leadroute.assignment)
TO PUBLIC;
-- The pieces of imports and exports, which run with the caller's rights on configuration.
GRANT EXECUTE ON FUNCTION
    leadroute.export_rules(text, bigint), leadroute.import_rules(jsonb, bigint), leadroute._document_parts(), leadroute._document_defaults(text, text),
    leadroute._document_rep(bigint, bigint), leadroute._document_section(text, text, bigint), leadroute._rep_of_document(text, text, bigint),
    leadroute._check_document(jsonb), leadroute._document_items(jsonb, text, text, text), leadroute._document_rows(jsonb, text, bigint),
    leadroute._write_rows(text, jsonb, text[], bigint, text), leadroute._write_steps(jsonb, bigint), leadroute._write_reps(jsonb, bigint),
    leadroute._write_document(jsonb, bigint),
    leadroute.import_salesforce_rules(text, text, jsonb, jsonb, bigint), leadroute._refuse_import(text, text, text),
    leadroute._formula(text, text[], text[], text[]), leadroute._filter(text, text[]), leadroute._expression_type(regclass, text, text),
    leadroute._salesforce_document(text), leadroute._salesforce_children(xml), leadroute._salesforce_rule_sets(xml), leadroute._salesforce_rule_set(xml, text),
    leadroute._salesforce_kind(oid), leadroute._salesforce_fields(regclass, jsonb), leadroute._salesforce_own_field(text),
    leadroute._salesforce_values(text), leadroute._salesforce_literal(text, text),
    leadroute._salesforce_tests(text, text, text, text, text[], boolean), leadroute._salesforce_criterion(text, text, text, text, text),
    leadroute._salesforce_condition(xml, text, text, jsonb), leadroute._salesforce_entries(xml, text, jsonb),
    leadroute._salesforce_options(jsonb), leadroute._salesforce_rep(text, jsonb, bigint), leadroute._salesforce_pool(text, jsonb, text, bigint),
    leadroute._salesforce_former(text, bigint), leadroute._salesforce_require_fields(xml, text, jsonb), leadroute._salesforce_plan(text, xml, text, jsonb, jsonb, bigint)
TO PUBLIC;
-- These look at who calls them (access.sql).
GRANT EXECUTE ON FUNCTION
    leadroute._everywhere(text[]), leadroute._my_tenants(text[]), leadroute._my_reps(), leadroute._my_pools(), leadroute._my_claim_pools(),
    leadroute._my_lead_tables(), leadroute._require(bigint, text[]), leadroute._require_rep(bigint, bigint),
    leadroute._pool_rows(bigint), leadroute._stat_rows(bigint), leadroute._in_flight(),
    leadroute._explain_lead(text, jsonb, bigint), leadroute._explain(regclass, bigint, record, jsonb),
    leadroute._explain_words(text, bigint, jsonb), leadroute._rules_to_restore(text, timestamptz, bigint),
    leadroute._managed_table(text, bigint), leadroute._replay(regclass, bigint, timestamptz, timestamptz)
TO PUBLIC;
-- For users with a level; schema USAGE is granted with it.
GRANT EXECUTE ON FUNCTION
    leadroute.why(text, integer, integer, bigint), leadroute.why(text, bigint, integer, bigint),
    leadroute.why(text, uuid, integer, bigint), leadroute.why(text, text, integer, bigint),
    leadroute.why_json(text, integer, integer, bigint), leadroute.why_json(text, bigint, integer, bigint),
    leadroute.why_json(text, uuid, integer, bigint), leadroute.why_json(text, text, integer, bigint),
    leadroute.pool_state(bigint), leadroute.stat(bigint), leadroute.verify(bigint), leadroute.health(),
    leadroute.explain(text, jsonb, bigint),
    leadroute.replay(text, timestamptz, timestamptz, bigint), leadroute.replay_summary(text, timestamptz, timestamptz, bigint),
    leadroute.rules_as_of(text, timestamptz, bigint), leadroute.restore_rules(text, timestamptz, bigint),
    leadroute.rule_version(text, integer, integer, bigint), leadroute.rule_version(text, bigint, integer, bigint),
    leadroute.rule_version(text, uuid, integer, bigint), leadroute.rule_version(text, text, integer, bigint),
    leadroute.reassign(text, integer, bigint, text, bigint), leadroute.reassign(text, bigint, bigint, text, bigint),
    leadroute.reassign(text, uuid, bigint, text, bigint), leadroute.reassign(text, text, bigint, text, bigint),
    leadroute.release(text, integer, text, bigint), leadroute.release(text, bigint, text, bigint),
    leadroute.release(text, uuid, text, bigint), leadroute.release(text, text, text, bigint),
    leadroute.credit_back(text, integer, text, bigint), leadroute.credit_back(text, bigint, text, bigint),
    leadroute.credit_back(text, uuid, text, bigint), leadroute.credit_back(text, text, text, bigint),
    leadroute.route(text, integer, bigint), leadroute.route(text, bigint, bigint),
    leadroute.route(text, uuid, bigint), leadroute.route(text, text, bigint),
    leadroute.claim(text, integer, bigint, bigint), leadroute.claim(text, bigint, bigint, bigint),
    leadroute.claim(text, uuid, bigint, bigint), leadroute.claim(text, text, bigint, bigint),
    leadroute.claim_next(bigint, text, boolean, bigint),
    leadroute.touch(text, integer, text, text, jsonb, bigint), leadroute.touch(text, bigint, text, text, jsonb, bigint),
    leadroute.touch(text, uuid, text, text, jsonb, bigint), leadroute.touch(text, text, text, text, jsonb, bigint),
    leadroute._touch(text, text, text, text, jsonb, bigint),
    leadroute.close(text, integer, text, numeric, bigint), leadroute.close(text, bigint, text, numeric, bigint),
    leadroute.close(text, uuid, text, numeric, bigint), leadroute.close(text, text, text, numeric, bigint),
    leadroute._close(text, text, text, numeric, bigint),
    leadroute.available_leads(bigint, text, bigint), leadroute.shark_tank(bigint, bigint),
    leadroute.refresh_performance(text, bigint),
    leadroute.events_since(text, bigint), leadroute.event_cursor(),
    leadroute.acknowledge(bigint, bigint), leadroute.schedule_sweep(text), leadroute.unschedule_sweep(), leadroute.sign_in(bigint, bigint), leadroute.sign_out(bigint, bigint), leadroute.heartbeat(bigint, bigint)
TO PUBLIC;
GRANT EXECUTE ON PROCEDURE leadroute.sweep(integer, interval) TO PUBLIC;
-- check_rules(), and what it asks with its caller's rights.
GRANT EXECUTE ON FUNCTION leadroute.check_rules(text, integer, bigint),
    leadroute._check_conditions(regclass, bigint, integer),
    leadroute._check_words(text, bigint, jsonb), leadroute._check_values(regclass, name, bigint, jsonb)
TO PUBLIC;
