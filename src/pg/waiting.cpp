// What the record keeps of a lead that waits; see waiting.h.
#include "waiting.h"
#include "score.h"

extern "C" {
#include "common/shortest_dec.h"
#include "utils/array.h"
#include "utils/datum.h"
}

static Datum need_text(const Need* need) {
    char level[DOUBLE_SHORTEST_DECIMAL_LEN];
    if (need->level == 1)
        return PointerGetDatum(cstring_to_text_with_len(need->name, need->length));
    double_to_shortest_decimal_buf(need->level, level);
    return CStringGetTextDatum(psprintf("%.*s>=%s", need->length, need->name, level));
}

Datum waiting_needs(const Needs* needs) {
    if (needs == NULL)
        return (Datum)0;
    Datum texts[kMaxNeeds];
    for (int i = 0; i < needs->count; i++)
        texts[i] = need_text(&needs->need[i]);
    return PointerGetDatum(construct_array(texts, needs->count, TEXTOID, -1, false, TYPALIGN_INT));
}

void waiting_score(const LeadTable* table, const Lead* lead, RecordRow* row) {
    if (table->score_column == InvalidAttrNumber)
        return;
    bool isnull;
    Datum value = slot_getattr(lead->slot, table->score_column, &isnull);
    row->has_score = !isnull && score_from(table->score_type, value, &row->score);
}

void waiting_offer(const Pick* picked, RecordRow* row) {
    Datum* reps = static_cast<Datum*>(palloc(sizeof(Datum) * picked->offered_count));
    for (int i = 0; i < picked->offered_count; i++)
        reps[i] = Int64GetDatum(picked->offered_to[i]);
    row->offered_to = PointerGetDatum(construct_array(
        reps, picked->offered_count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
    pfree(reps);
    row->offered_until =
        picked->offer_window == 0 ? DT_NOEND : row->decided_at + picked->offer_window;
}

bool waiting_same_needs(Datum a, Datum b) {
    if (a == 0 || b == 0)
        return a == b;
    return datum_image_eq(PointerGetDatum(DatumGetArrayTypeP(a)),
                          PointerGetDatum(DatumGetArrayTypeP(b)), false, -1);
}
