// Laying a predicate out in one piece of memory; see core/rule_index.h.
#include "rule_draft.h"

static Size list_size(const Draft* draft) {
    Size size = 0;
    switch (draft->atom.kind) {
    case core::AtomKind::numbers:
        return sizeof(int64) * draft->atom.count;
    case core::AtomKind::prefix:
        return MAXALIGN(draft->atom.count);
    case core::AtomKind::texts:
        for (uint32 i = 0; i < draft->atom.count; i++)
            size += draft->list[i].length;
        return MAXALIGN(size) + sizeof(core::TextRef) * draft->atom.count;
    default:
        return 0;
    }
}

// Puts the list at `at`, a multiple of eight, and returns where the next one goes.
static Size place_list(char* base, Size at, const Draft* draft, core::Atom* atom) {
    *atom = draft->atom;
    if (atom->kind == core::AtomKind::range || list_size(draft) == 0)
        return at;
    atom->hi = static_cast<int64>(at);
    Size text = at + sizeof(core::TextRef) * atom->count;
    for (uint32 i = 0; i < atom->count; i++) {
        if (atom->kind == core::AtomKind::numbers) {
            memcpy(base + at + sizeof(int64) * i, &draft->list[i].lo, sizeof(int64));
        } else if (atom->kind == core::AtomKind::texts) {
            core::TextRef ref = {static_cast<uint32>(text), draft->list[i].length};
            memcpy(base + at + sizeof(ref) * i, &ref, sizeof(ref));
            memcpy(base + text, draft->list[i].text, ref.length);
            text += ref.length;
        }
    }
    if (atom->kind == core::AtomKind::prefix)
        memcpy(base + at, draft->list->text, atom->count);
    return at + list_size(draft);
}

core::Predicate* rule_lay_out(Ways ways) {
    core::Predicate head = {0, static_cast<uint16>(list_length(ways.all)), 0};
    Size lists = 0;
    ListCell* cell;
    foreach (cell, ways.all) {
        const Way* way = static_cast<const Way*>(lfirst(cell));
        head.atoms = static_cast<uint16>(head.atoms + way->count);
        for (int i = 0; i < way->count; i++)
            lists += list_size(way->atoms[i]);
    }
    Size at = sizeof(head) + sizeof(core::Alternative) * head.alternatives +
              sizeof(core::Atom) * head.atoms;
    head.size = static_cast<uint32>(at + lists);
    core::Predicate* predicate = static_cast<core::Predicate*>(palloc0(head.size));
    *predicate = head;
    core::Alternative* alternative = const_cast<core::Alternative*>(predicate->alternative(0));
    core::Atom* atom = const_cast<core::Atom*>(predicate->atom(0));
    uint32 first = 0;
    foreach (cell, ways.all) {
        const Way* way = static_cast<const Way*>(lfirst(cell));
        *alternative++ = {first, static_cast<uint16>(way->count), way->exact};
        for (int i = 0; i < way->count; i++)
            at = place_list(reinterpret_cast<char*>(predicate), at, way->atoms[i], &atom[first++]);
    }
    return predicate;
}
