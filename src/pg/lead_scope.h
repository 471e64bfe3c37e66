// What a lead table's owner has put into its constraints, indexes and triggers runs with his rights
// and the search_path of a session of his.
#pragma once

#include "leadroute.h"

struct LeadRights {
    Oid role;
    const char* search_path;
};

// Ends by itself on error.
struct LeadScope {
    Oid user;
    int security_context;
    int guc_level;
};
void lead_scope_begin(const LeadRights* rights, LeadScope* scope);
void lead_scope_end(const LeadScope* scope);
