// Commands that need a database to themselves find it without its worker: DROP DATABASE, ALTER
// DATABASE RENAME and SET TABLESPACE, CREATE DATABASE with it as template. And COMMIT PREPARED,
// after which nobody but the worker can tell the transaction's events.
#include "events.h"
#include "shared.h"

extern "C" {
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "nodes/parsenodes.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/wait_event.h"
}

constexpr TimestampTz kBar = 10 * USECS_PER_SEC; // should the command's session vanish
constexpr int kPatience = 500;                   // times 10 ms

static ProcessUtility_hook_type previous_utility;

static const char* option_text(List* options, const char* name) {
    ListCell* cell;
    foreach (cell, options) {
        DefElem* option = static_cast<DefElem*>(lfirst(cell));
        if (strcmp(option->defname, name) == 0 && option->arg != NULL)
            return defGetString(option);
    }
    return NULL;
}

// The database that the command needs for itself, or NULL.
static const char* wanted_database(Node* statement) {
    switch (nodeTag(statement)) {
    case T_DropdbStmt:
        return reinterpret_cast<DropdbStmt*>(statement)->dbname;
    case T_RenameStmt: {
        RenameStmt* rename = reinterpret_cast<RenameStmt*>(statement);
        return rename->renameType == OBJECT_DATABASE ? rename->subname : NULL;
    }
    case T_AlterDatabaseStmt: {
        AlterDatabaseStmt* alter = reinterpret_cast<AlterDatabaseStmt*>(statement);
        return option_text(alter->options, "tablespace") != NULL ? alter->dbname : NULL;
    }
    case T_CreatedbStmt: {
        const char* source =
            option_text(reinterpret_cast<CreatedbStmt*>(statement)->options, "template");
        return source == NULL ? "template1" : source;
    }
    default:
        return NULL;
    }
}

// Sends the worker of the database away and keeps others from starting; returns when it has gone,
// or after a while. The command itself waits another five seconds.
static void clear_database(Oid database) {
    for (int i = 0; i < kPatience; i++) {
        LWLockAcquire(events_lock(), LW_EXCLUSIVE);
        EventSlot* slot = event_slot_find(database, false);
        bool there = slot != NULL && slot->pid != 0;
        if (slot != NULL)
            slot->barred_until = GetCurrentTimestamp() + kBar;
        if (there) {
            pg_atomic_write_u32(&slot->leave, 1);
            SetLatch(slot->latch);
        }
        LWLockRelease(events_lock());
        if (!there)
            return;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

static void release_database(Oid database, bool dropped) {
    LWLockAcquire(events_lock(), LW_EXCLUSIVE);
    EventSlot* slot = event_slot_find(database, false);
    if (slot != NULL)
        slot->barred_until = 0;
    if (slot != NULL && dropped)
        event_slot_drain(slot);
    LWLockRelease(events_lock());
}

static void prepared_was_committed(void) {
    EventSlot* slot = leadroute_notify == NOTIFY_WORKER ? event_slot_pin() : NULL;
    if (slot == NULL)
        return;
    pg_atomic_exchange_u32(&slot->lost, 1);
    if (pg_atomic_read_u32(&slot->state) != WORKER_RUNNING)
        notifier_start(slot);
    event_slot_wake(slot);
    event_slot_unpin(slot);
}

static void utility(PlannedStmt* statement, const char* text, bool read_only,
                    ProcessUtilityContext context, ParamListInfo parameters,
                    QueryEnvironment* environment, DestReceiver* destination,
                    QueryCompletion* completion) {
    if (previous_utility)
        previous_utility(statement, text, read_only, context, parameters, environment, destination,
                         completion);
    else
        standard_ProcessUtility(statement, text, read_only, context, parameters, environment,
                                destination, completion);
}

static bool commits_prepared(Node* statement) {
    return IsA(statement, TransactionStmt) &&
           reinterpret_cast<TransactionStmt*>(statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

static void utility_hook(PlannedStmt* statement, const char* text, bool read_only,
                         ProcessUtilityContext context, ParamListInfo parameters,
                         QueryEnvironment* environment, DestReceiver* destination,
                         QueryCompletion* completion) {
    const char* name = shared_ready() ? wanted_database(statement->utilityStmt) : NULL;
    Oid database = name == NULL ? InvalidOid : get_database_oid(name, true);
    if (!OidIsValid(database)) {
        bool prepared = shared_ready() && commits_prepared(statement->utilityStmt);
        utility(statement, text, read_only, context, parameters, environment, destination,
                completion);
        if (prepared)
            prepared_was_committed();
        return;
    }
    clear_database(database);
    bool drops = IsA(statement->utilityStmt, DropdbStmt);
    volatile bool done = false;
    PG_TRY();
    {
        utility(statement, text, read_only, context, parameters, environment, destination,
                completion);
        done = true;
    }
    PG_FINALLY();
    { release_database(database, drops && done); }
    PG_END_TRY();
}

void notifier_init(void) {
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = utility_hook;
}
