// Writing assignment rows the cheapest way that is exact: straight into the relation and its
// indexes, with the handles opened once in a transaction; one by one, or in batches for bulk. No
// trigger of the record's table fires for them; no right on it is needed.
#pragma once

#include "leadroute.h"

// One row to write. Zero ids and NULL pointers are stored as NULL.
struct RecordRow {
    int64 tenant;
    int64 ticket;
    TimestampTz decided_at;
    bool has_rep;
    int64 rep;
    int64 rule;
    int32 lead_table;
    int32 episode;
    int32 pool;
    bool has_day;
    DateADT day;
    int32 rep_cap;    // -1: none
    int32 member_cap; // -1: none
    int32 open_cap;   // -1: none
    bool has_deficit;
    float4 deficit;
    double tag; // start tag less the turns received, in virtual time; with has_deficit
    const char* lead_id;
    const char* method;
    const uint8* explanation;
    int32 explanation_length;
    bool has_label;
    Datum label;    // jsonb
    Oid assignment; // relation to write to
};

// A deep copy in the current memory context.
void record_copy(RecordRow* to, const RecordRow* from);

struct RecordBuffer;

// Writes the row now. *buffer, made when needed, remembers what is to be checked when the statement
// has stored its leads; with buffer NULL all is checked at once.
void record_write(RecordBuffer** buffer, const RecordRow* row);
// Collects the row; writes when a batch is full. *buffer is made when NULL.
void record_buffer(RecordBuffer** buffer, const RecordRow* row);
// Writes what is collected. Has to be called at the transaction level that collected it.
void record_flush(RecordBuffer* buffer);
// The same at the end of the statement: its leads are stored, so no open episode may be repeated.
void record_finish(RecordBuffer* buffer);
void record_buffer_free(RecordBuffer* buffer);

// True when the lead has an open episode.
bool record_is_open(Oid assignment, int64 tenant, int32 lead_table, const char* lead_id);

void record_close(void);   // before commit or prepare
void record_abandon(void); // abort: the server has released the handles
