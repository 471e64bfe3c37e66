// What every file of the PostgreSQL side includes: the server's headers (here and nowhere else) and
// what differs between its versions.
#pragma once

extern "C" {
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgtime.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datum.h"
#include "utils/datetime.h"
#include "utils/dsa.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

#include "errors.h"

// Version differences live here alone.
#define LR_PG16_GE (PG_VERSION_NUM >= 160000)
#define LR_PG17_GE (PG_VERSION_NUM >= 170000)
#define LR_PG18_GE (PG_VERSION_NUM >= 180000)

#if LR_PG18_GE
#define LR_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define LR_RUN_ARGUMENTS query, direction, count
#else
#define LR_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define LR_RUN_ARGUMENTS query, direction, count, execute_once
#endif

inline IndexScanDesc begin_index_scan(Relation table, Relation index, Snapshot snapshot, int keys) {
#if LR_PG18_GE
    return index_beginscan(table, index, snapshot, NULL, keys, 0);
#else
    return index_beginscan(table, index, snapshot, keys, 0);
#endif
}

// Which indexes a new version of a row has to enter.
#if LR_PG16_GE
using IndexesToEnter = TU_UpdateIndexes;
inline bool none_to_enter(IndexesToEnter indexes) {
    return indexes == TU_None;
}
#else
using IndexesToEnter = bool;
inline bool none_to_enter(IndexesToEnter indexes) {
    return !indexes;
}
#endif

// Writes a new version of the row at `at`, without its index entries; anything but TM_Ok: another
// transaction has changed the row, or this one has.
inline TM_Result update_row(Relation table, ItemPointer at, TupleTableSlot* slot, Snapshot snapshot,
                            IndexesToEnter* indexes) {
    TM_FailureData failure;
    LockTupleMode mode;
    return table_tuple_update(table, at, slot, GetCurrentCommandId(true), snapshot, InvalidSnapshot,
                              true, &failure, &mode, indexes);
}

// Enters a new row into the indexes that are open.
inline void insert_index_entries_of(ResultRelInfo* result, TupleTableSlot* slot, EState* executor) {
#if LR_PG16_GE
    list_free(ExecInsertIndexTuples(result, slot, executor, false, false, NULL, NIL, false));
#else
    list_free(ExecInsertIndexTuples(result, slot, executor, false, false, NULL, NIL));
#endif
}

// Enters it into them.
inline void enter_indexes(ResultRelInfo* result, TupleTableSlot* slot, EState* executor,
                          [[maybe_unused]] IndexesToEnter indexes) {
#if LR_PG16_GE
    list_free(ExecInsertIndexTuples(result, slot, executor, true, false, NULL, NIL,
                                    indexes == TU_Summarizing));
#else
    list_free(ExecInsertIndexTuples(result, slot, executor, true, false, NULL, NIL));
#endif
}

// What an operator means to the families of ordered indexes that it belongs to.
#if LR_PG18_GE
using OperatorMeaning = OpIndexInterpretation;
inline List* operator_meanings(Oid operation) {
    return get_op_index_interpretation(operation);
}
inline bool means_equal(const OperatorMeaning* meaning) {
    return meaning->cmptype == COMPARE_EQ;
}
#else
using OperatorMeaning = OpBtreeInterpretation;
inline List* operator_meanings(Oid operation) {
    return get_op_btree_interpretation(operation);
}
inline bool means_equal(const OperatorMeaning* meaning) {
    return meaning->strategy == BTEqualStrategyNumber;
}
#endif
inline bool is_equality(Oid operation) {
    ListCell* cell;
    foreach (cell, operator_meanings(operation))
        if (means_equal(static_cast<const OperatorMeaning*>(lfirst(cell))))
            return true;
    return false;
}

// The sequence behind an identity column.
inline Oid identity_sequence(Relation table, AttrNumber column) {
#if LR_PG17_GE
    return getIdentitySequence(table, column, false);
#else
    return getIdentitySequence(RelationGetRelid(table), column, false);
#endif
}

inline LocalTransactionId local_transaction(void) {
#if LR_PG17_GE
    return MyProc->vxid.lxid;
#else
    return MyProc->lxid;
#endif
}

// Begins the result of a function that returns a set of rows.
inline ReturnSetInfo* start_rows(FunctionCallInfo fcinfo) {
#if LR_PG16_GE
    InitMaterializedSRF(fcinfo, 0);
#else
    SetSingleFuncCall(fcinfo, 0);
#endif
    return reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
}

// The same for a set of single values, in FROM.
inline ReturnSetInfo* start_values(FunctionCallInfo fcinfo) {
#if LR_PG16_GE
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
#else
    SetSingleFuncCall(fcinfo, SRF_SINGLE_USE_EXPECTED);
#endif
    return reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
}

// This backend's place among all, from 0.
inline int backend_index(void) {
#if LR_PG17_GE
    return MyProcNumber;
#else
    return MyBackendId - 1;
#endif
}

// Settings (settings.cpp).
extern int leadroute_on_rule_error; // RuleErrorPolicy
extern int leadroute_unavailable;   // UnavailablePolicy
extern bool leadroute_explain;
extern int leadroute_max_pools;
extern int leadroute_max_members;
extern int leadroute_notify;      // NotifyMode
extern int leadroute_notify_idle; // seconds
extern bool leadroute_backlog;
extern double leadroute_notify_queue_limit;
extern int leadroute_event_buffer; // kB

extern int leadroute_presence_timeout; // seconds
extern bool leadroute_rule_index;

enum RuleErrorPolicy { RULE_ERROR_SKIP, RULE_ERROR_ERROR };
enum UnavailablePolicy { UNAVAILABLE_ERROR, UNAVAILABLE_QUEUE };
enum NotifyMode { NOTIFY_WORKER, NOTIFY_TRANSACTION, NOTIFY_OFF };

// Runs as the owner of leadroute's tables, with a search_path that nobody can plant objects in:
// around every SPI statement of ours, never around a lead's own row. Ends by itself on error.
struct OwnerScope {
    Oid user;
    int security_context;
    int guc_level;
};
void owner_scope_begin(OwnerScope* scope);
void owner_scope_end(OwnerScope* scope);

// caller.cpp: raises LR012 unless who calls has one of the levels ("{app,manager}") for the tenant.
void require_level(int64 tenant, const char* levels);

// LR014 unless this library works with the extension as it was created or updated (version.cpp).
void version_require(void);

// Inserts a row into leadroute.alert, unless the same (kind, rule, pool) of this tenant was alerted
// within the last minute by a committed transaction. Ids of 0 and NULL texts are stored as NULL.
struct Alert {
    const char* kind;
    int64 tenant;
    int32 lead_table;
    const char* lead_id;
    int64 rep;
    int32 pool;
    int64 rule;
    const char* message;
};
void raise_alert(const Alert* alert);
