// See lead_scope.h.
#include "lead_scope.h"

void lead_scope_begin(const LeadRights* rights, LeadScope* scope) {
    GetUserIdAndSecContext(&scope->user, &scope->security_context);
    SetUserIdAndSecContext(rights->role, scope->security_context | SECURITY_LOCAL_USERID_CHANGE |
                                             SECURITY_RESTRICTED_OPERATION);
    scope->guc_level = NewGUCNestLevel();
    if (strcmp(namespace_search_path, rights->search_path) != 0)
        (void)set_config_option("search_path", rights->search_path, PGC_USERSET, PGC_S_SESSION,
                                GUC_ACTION_SAVE, true, 0, false);
}

void lead_scope_end(const LeadScope* scope) {
    AtEOXact_GUC(false, scope->guc_level);
    SetUserIdAndSecContext(scope->user, scope->security_context);
}
