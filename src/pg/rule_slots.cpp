// Reading a lead's values for the index; see rule_analyse.h.
#include "rule_analyse.h"

extern "C" {
#include "utils/numeric.h"
#include "utils/uuid.h"
}

// The server's storage format of numerics, which it does not tell outside: sign, weight and digits
// of base 10000.
struct Digits {
    bool special;
    bool negative;
    int weight; // of the first digit
    int count;
    const int16* digits;
    uint16 header;
};

static Digits digits_of(const varlena* packed) {
    const char* data = VARDATA_ANY(packed);
    int bytes = static_cast<int>(VARSIZE_ANY_EXHDR(packed));
    Digits d = {};
    memcpy(&d.header, data, sizeof(uint16));
    d.special = (d.header & 0xC000) == 0xC000;
    if ((d.header & 0xC000) == 0x8000) {
        d.negative = (d.header & 0x2000) != 0;
        d.weight = (d.header & 0x003F) - ((d.header & 0x0040) != 0 ? 0x40 : 0);
        d.digits = reinterpret_cast<const int16*>(data + sizeof(uint16));
        d.count = (bytes - static_cast<int>(sizeof(uint16))) / 2;
    } else if (!d.special) {
        int16 weight;
        memcpy(&weight, data + sizeof(uint16), sizeof(weight));
        d.negative = (d.header & 0xC000) == 0x4000;
        d.weight = weight;
        d.digits = reinterpret_cast<const int16*>(data + 2 * sizeof(uint16));
        d.count = (bytes - 2 * static_cast<int>(sizeof(uint16))) / 2;
    }
    return d;
}

static double special_of(uint16 header) {
    if ((header & 0xF000) == 0xD000)
        return get_float8_infinity();
    return (header & 0xF000) == 0xF000 ? -get_float8_infinity() : get_float8_nan();
}

// Numbers of at most 15 decimal digits differ as doubles where they differ at all, and a whole
// number below 10^15 divided or multiplied by a power of ten up to 10^22 is rounded correctly.
static bool exact_of(const Digits* d, double* value) {
    static const double powers[] = {1, 1e4, 1e8, 1e12, 1e16, 1e20};
    if (d->count > 4)
        return false;
    int64 all = 0;
    for (int i = 0; i < d->count; i++) {
        int16 digit;
        memcpy(&digit, &d->digits[i], sizeof(digit));
        all = all * 10000 + digit;
    }
    int scale = d->count == 0 ? 0 : d->weight - d->count + 1;
    if (all >= INT64CONST(1000000000000000) || scale > 5 || scale < -5)
        return false;
    double whole = static_cast<double>(d->negative ? -all : all);
    *value = scale < 0 ? whole / powers[-scale] : whole * powers[scale];
    return true;
}

core::Value numeric_number(Datum value) {
    varlena* packed = PG_DETOAST_DATUM_PACKED(value);
    Digits digits = digits_of(packed);
    double number;
    if (digits.special)
        return core::number_value(core::ordered(special_of(digits.header)));
    if (exact_of(&digits, &number))
        return core::number_value(core::ordered(number));
    number = DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value));
    core::Value made = core::number_value(core::ordered(number));
    made.lo--;
    made.hi++;
    return made;
}

static core::Value text_of(Datum value) {
    const text* packed = DatumGetTextPP(value);
    return core::text_value(VARDATA_ANY(packed), static_cast<uint32>(VARSIZE_ANY_EXHDR(packed)));
}

// Beyond this size the server may be short of memory for the other case.
constexpr uint32 kCaseBytes = 1024 * 1024;

static core::Value cased(const RuleSlot* slot, Datum value) {
    if (VARSIZE_ANY_EXHDR(DatumGetTextPP(value)) > kCaseBytes)
        return core::unknown_value();
    return text_of(DirectFunctionCall1Coll(slot->reader == SlotReader::lower ? lower : upper,
                                           slot->collation, value));
}

static core::Value read(const RuleSlot* slot, Datum value) {
    switch (slot->reader) {
    case SlotReader::any:
        return core::number_value(0);
    case SlotReader::int2:
        return core::number_value(DatumGetInt16(value));
    case SlotReader::int4:
        return core::number_value(DatumGetInt32(value));
    case SlotReader::int8:
        return core::number_value(DatumGetInt64(value));
    case SlotReader::float4:
        return core::number_value(core::ordered(DatumGetFloat4(value)));
    case SlotReader::float8:
        return core::number_value(core::ordered(DatumGetFloat8(value)));
    case SlotReader::numeric:
        return numeric_number(value);
    case SlotReader::boolean:
        return core::number_value(DatumGetBool(value) ? 1 : 0);
    case SlotReader::date:
        return core::number_value(DatumGetDateADT(value));
    case SlotReader::timestamp:
        return core::number_value(DatumGetTimestamp(value));
    case SlotReader::text:
        return text_of(value);
    case SlotReader::uuid:
        return core::text_value(reinterpret_cast<const char*>(DatumGetUUIDP(value)->data),
                                UUID_LEN);
    case SlotReader::lower:
    case SlotReader::upper:
        return cased(slot, value);
    }
    return core::unknown_value();
}

void rule_slots_read(const RuleSlot* slots, const AttrNumber* columns, int count,
                     TupleTableSlot* lead, core::Value* values) {
    for (int i = 0; i < count; i++) {
        bool isnull;
        Datum value = slot_getattr(lead, columns[i], &isnull);
        values[i] = isnull ? core::null_value() : read(&slots[i], value);
    }
}
