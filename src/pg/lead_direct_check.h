// Which lead tables lead_direct.cpp may deal with.
#pragma once

#include "leadroute.h"

struct DirectLead {
    Oid relation;
    Oid index; // of its primary key
    int keys;
    RegProcedure equal[2];
    Oid collation[2];
    bool is_tenant[2]; // the index's column, else the lead's key
    AttrNumber attribute[2];
    AttrNumber owner;
    Oid owner_output;
    bool has_foreign_keys;
    bool
        is_sure; // telling a lead its owner fails for none alone: nothing of the table is evaluated
    bool outdated;
    ItemPointerData locked; // row of the lead locked last
};

// Columns of the lead table.
struct DirectColumns {
    AttrNumber key, owner;
    AttrNumber tenant; // invalid: none
};

// False: the table is not for it.
bool direct_check(Oid relation, const DirectColumns* columns, DirectLead* lead);
