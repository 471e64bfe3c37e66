// Which statement a trigger call belongs to, and whether the row it routes is sure to arrive.
//
// A trigger cannot see ON CONFLICT, nor that the row comes from an UPDATE that moves it to another
// partition. So the executor's hooks keep a stack of running statements that write, and the utility
// hook one for COPY. A row that is sure to arrive is recorded at once, or buffered from the second
// row of its statement on (the direct way); for one that may be dropped after its BEFORE triggers
// the decision waits for the AFTER ROW trigger (the safe way), and is taken back when the statement
// ends without it.
#pragma once

#include "leadroute.h"

#include "record.h"
#include "shared.h"

// A decision whose row has not arrived yet (the safe way).
struct Deferred {
    Deferred* next;
    TenantSlot* slot; // NULL: nothing was charged
    bool confirmed;
    bool again;     // of a lead that is there already: the next episode, not the first
    bool owner_set; // by the decision
    bool owner_isnull;
    Datum owner; // as the lead should carry it, for comparison
    RecordRow row;
};

struct Frame {
    Frame* previous;
    QueryDesc* query; // NULL: COPY
    int level;        // nest level of the transaction
    bool inspected;
    bool may_drop_rows; // ON CONFLICT somewhere in the plan
    bool may_move_rows; // UPDATE or MERGE somewhere in the plan
    bool last_deferred; // the latest row took the safe way
    uint64 number;      // of the statement in this session
    bool loose;         // called by neither the executor nor COPY: no end of statement is seen
    int64 rows;
    MemoryContext context; // of the deferred; made when needed
    Deferred* first;
    Deferred* last;
    int64 again;      // how many of them are of leads that are there already
    Deferred* cursor; // where the search for the next arrival goes on
    RecordBuffer* buffer;
    HTAB* contacts;   // of the deferred, whose rep they go to; NULL: none has one
    Frame* kept_next; // in the list of those that wait for ExecutorFinish

    // The executor's own copy of a relation's AFTER trigger; see frame_after_trigger().
    Relation after_relation; // looked for in
    Trigger* after_trigger;  // or NULL: not found
};

void frame_init(void); // from _PG_init: sets the hooks

// The statement that a trigger now runs for; a stand-in of its own for a caller that is neither
// the executor nor COPY (logical replication).
Frame* frame_current(void);
void frame_inspect(Frame* frame);
MemoryContext frame_context(Frame* frame);
void frame_defer(Frame* frame, Deferred* deferred);
// The rep of the latest decision for this contact that the running statements have taken but not
// written yet; false: there is none. Of a decision that waits for its row the row may never arrive.
bool frame_known_rep(const ContactKey* key, int64* rep);
// Says whether an AFTER trigger is to fire for the row of this BEFORE trigger call: `enabled` is
// its pg_trigger.tgenabled then, and TRIGGER_DISABLED else. Its WHEN says so too, but the executor
// parses and plans that anew for each statement; so in a statement of few relations the trigger is
// switched off in the statement's own copy of them.
void frame_after_trigger(Frame* frame, const TriggerData* data, Oid trigger, char enabled);

void frames_forget(void);          // transaction end
void frames_abort(int nest_level); // subtransaction abort
