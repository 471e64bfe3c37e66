// The settings leadroute.*; all for administrators alone, their prefix is reserved.
#include "leadroute.h"
#include "settings.h"

int leadroute_on_rule_error = RULE_ERROR_SKIP;
int leadroute_unavailable = UNAVAILABLE_ERROR;
bool leadroute_explain = true;
int leadroute_max_pools = 4096;
int leadroute_max_members = 65536;

static const struct config_enum_entry rule_error_values[] = {
    {"skip", RULE_ERROR_SKIP, false}, {"error", RULE_ERROR_ERROR, false}, {NULL, 0, false}};
static const struct config_enum_entry unavailable_values[] = {
    {"error", UNAVAILABLE_ERROR, false}, {"queue", UNAVAILABLE_QUEUE, false}, {NULL, 0, false}};

void settings_init(void) {
    DefineCustomBoolVariable("leadroute.explain", "Keeps with each assignment why it was made.",
                             "Off, why() tells only the rule, the pool and the rep.",
                             &leadroute_explain, true, PGC_SUSET, 0, NULL, NULL, NULL);
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
    MarkGUCPrefixReserved("leadroute");
}
