// The settings leadroute.*; all but list_leads for administrators alone, their prefix is reserved.
#include "leadroute.h"
#include "settings.h"

int leadroute_on_rule_error = RULE_ERROR_SKIP;
int leadroute_unavailable = UNAVAILABLE_ERROR;
bool leadroute_explain = true;
int leadroute_max_pools = 4096;
int leadroute_max_members = 65536;
int leadroute_notify = NOTIFY_WORKER;
int leadroute_notify_idle = 10;
bool leadroute_backlog = true;
double leadroute_notify_queue_limit = 0.5;
int leadroute_event_buffer = 512;
int leadroute_presence_timeout = 900;
int leadroute_list_leads = 1000;
bool leadroute_rule_index = true;

static const struct config_enum_entry rule_error_values[] = {
    {"skip", RULE_ERROR_SKIP, false}, {"error", RULE_ERROR_ERROR, false}, {NULL, 0, false}};
static const struct config_enum_entry unavailable_values[] = {
    {"error", UNAVAILABLE_ERROR, false}, {"queue", UNAVAILABLE_QUEUE, false}, {NULL, 0, false}};
static const struct config_enum_entry notify_values[] = {{"worker", NOTIFY_WORKER, false},
                                                         {"transaction", NOTIFY_TRANSACTION, false},
                                                         {"off", NOTIFY_OFF, false},
                                                         {NULL, 0, false}};

static void notify_settings(void) {
    DefineCustomEnumVariable("leadroute.notify", "Who sends the events of a transaction.",
                             "worker: a background worker, after the commit; transaction: the "
                             "transaction itself, at its commit; off: nobody.",
                             &leadroute_notify, NOTIFY_WORKER, notify_values, PGC_SUSET, 0, NULL,
                             NULL, NULL);
    DefineCustomIntVariable(
        "leadroute.notify_idle", "Seconds without events after which the worker leaves.", NULL,
        &leadroute_notify_idle, 10, 1, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
    DefineCustomBoolVariable("leadroute.backlog",
                             "Gives waiting leads out as soon as somebody may take them.",
                             "By the background worker that sends events. Off, only sweep() does.",
                             &leadroute_backlog, true, PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomRealVariable(
        "leadroute.notify_queue_limit",
        "How full the server's notification queue may be before the worker skips events.",
        "A part of the whole, as pg_notification_queue_usage() tells it.",
        &leadroute_notify_queue_limit, 0.5, 0, 1, PGC_SIGHUP, 0, NULL, NULL, NULL);
    if (process_shared_preload_libraries_in_progress)
        DefineCustomIntVariable(
            "leadroute.event_buffer",
            "Shared memory for the events that wait to be sent, of each of 16 databases.",
            "When it is full, events are derived from the record.", &leadroute_event_buffer, 512, 8,
            65536, PGC_POSTMASTER, GUC_UNIT_KB, NULL, NULL, NULL);
}

void settings_init(void) {
    DefineCustomIntVariable(
        "leadroute.presence_timeout",
        "How long a rep who signed in and is not heard of again counts as present.",
        "At least two minutes: a heartbeat is written to disk once a minute.",
        &leadroute_presence_timeout, 900, 120, 604800, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
    DefineCustomIntVariable("leadroute.list_leads",
                            "Most leads that available_leads() and shark_tank() tell of at once.",
                            "The first ones, in the order in which they are claimed.",
                            &leadroute_list_leads, 1000, 1, 100000, PGC_USERSET, 0, NULL, NULL,
                            NULL);
    DefineCustomBoolVariable("leadroute.explain", "Keeps with each assignment why it was made.",
                             "Off, why() tells only the rule, the pool and the rep.",
                             &leadroute_explain, true, PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("leadroute.rule_index",
                             "Finds the rules that a lead may match by the lead's values.",
                             "Off, every rule before the one that matches is evaluated, and every "
                             "session compiles all of them. The answer is the same.",
                             &leadroute_rule_index, true, PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomEnumVariable("leadroute.on_rule_error",
                             "What a lead does when a rule raises an error.",
                             "skip: the rule does not match, which is recorded and alerted; "
                             "error: the insert fails.",
                             &leadroute_on_rule_error, RULE_ERROR_SKIP, rule_error_values,
                             PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomEnumVariable(
        "leadroute.unavailable", "What an insert does when leadroute is not preloaded.",
        "error: it fails; queue: the lead waits in the queue unmatched.", &leadroute_unavailable,
        UNAVAILABLE_ERROR, unavailable_values, PGC_SUSET, 0, NULL, NULL, NULL);
    if (process_shared_preload_libraries_in_progress) {
        DefineCustomIntVariable(
            "leadroute.max_members", "Pool members that shared memory has room for.",
            "Of the tenants in use; the least recently used are evicted.", &leadroute_max_members,
            65536, 64, 10000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
        DefineCustomIntVariable(
            "leadroute.max_pools", "Pools, and tenants in use, that shared memory has room for.",
            NULL, &leadroute_max_pools, 4096, 16, 1000000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
    }
    notify_settings();
    MarkGUCPrefixReserved("leadroute");
}
