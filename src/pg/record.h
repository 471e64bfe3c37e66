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
    int64 rep;
    int64 rule;
    int32 rule_version; // of the rule's row that matched
    int32 lead_table;
    int32 episode;
    int32 pool;
    DateADT day;
    int32 rep_cap;    // -1: none
    int32 member_cap; // -1: none
    int32 open_cap;   // -1: none
    float4 deficit;
    double tag; // start tag less the turns received, in virtual time; with has_deficit
    const char* lead_id;
    const char* method;
    const uint8* explanation;
    int32 explanation_length;
    int64 extra;   // what it cost beyond one turn, in the fair queue's units
    Datum label;   // jsonb
    int64 contact; // hash of what sticky_on says of the lead
    // of a lead that waits
    double score;              // has_score: it has one
    Datum needs;               // text[], 0: none
    Datum avoid;               // bigint[], 0: none
    Datum offered_to;          // bigint[], 0: not offered
    TimestampTz offered_until; // with offered_to
    bool has_score, at_front;
    bool pool_bound; // with or without a rep
    // of one that has a rep: its clock; sla 0: none
    int32 sla;
    int32 hops;
    TimestampTz due_at;
    TimestampTz next_step_at;

    Oid assignment; // relation to write to
    bool has_rep, has_day, has_deficit, has_label, has_contact;
};

// A deep copy in the current memory context.
void record_copy(RecordRow* to, const RecordRow* from);

// Whose lead it is, as sticky_on tells.
struct ContactKey {
    int64 tenant;
    int64 contact;
    int64 lead_table;
};

struct RecordBuffer;

// Writes the row now. *buffer, made when needed, remembers what is to be checked when the statement
// has stored its leads; with buffer NULL all is checked at once.
void record_write(RecordBuffer** buffer, const RecordRow* row);
// Adds the row, as it is written, to rows of the record.
void record_show(const RecordRow* row, Tuplestorestate* to);
// Collects the row; writes when a batch is full. *buffer is made when NULL.
void record_buffer(RecordBuffer** buffer, const RecordRow* row);
// Writes what is collected. Has to be called at the transaction level that collected it.
void record_flush(RecordBuffer* buffer);
// The same at the end of the statement: its leads are stored, so no open episode may be repeated.
void record_finish(RecordBuffer* buffer);
void record_buffer_free(RecordBuffer* buffer);

// The rep of the latest row with this contact that is collected, but not written; false: there is
// none.
bool record_buffer_knows(const RecordBuffer* buffer, const ContactKey* key, int64* rep);

// The relation and its index by the open leads' keys, by contacts, or by the next step of those
// that are not touched; the handles stay open until the transaction ends. False: there is no such
// index.
enum class RecordKey { open_lead, contact, next_step };
struct RecordIndex {
    Relation record;
    Relation index;
};
bool record_index(Oid assignment, RecordKey key, RecordIndex* found);

// record_find.cpp: the contacts of rows that have one and a rep, with those reps.
struct KnownContact;
struct RecordContacts {
    int count;
    KnownContact* known; // made when needed, for `most`
};
void contacts_note(RecordContacts* contacts, MemoryContext context, int most, const RecordRow* row);
bool contacts_know(const RecordContacts* contacts, const ContactKey* key, int64* rep);

// The rep of the contact's latest written row that has one, decided at `since` or
// later, as this transaction sees the record now, rows of the running statement included; false:
// there is none.
bool record_known_rep(Oid assignment, const ContactKey* key, TimestampTz since, int64* rep);
// True when the lead has an open episode.
bool record_is_open(Oid assignment, int64 tenant, int32 lead_table, const char* lead_id);

void record_close(void);   // before commit or prepare
void record_abandon(void); // abort: the server has released the handles
