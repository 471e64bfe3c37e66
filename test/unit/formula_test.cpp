// Formulas and filters of Salesforce as SQL: what is translated, and what is refused and where.
#include "formula.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace leadroute::core {
namespace {

const FormulaField kFields[] = {
    {"Lead.Country", "country", FormulaKind::text},
    {"Rating", "(attrs ->> 'rating')", FormulaKind::text},
    {"Amount", "amount", FormulaKind::number},
    {"Hot__c", "hot", FormulaKind::boolean},
    {"Due__c", "due", FormulaKind::date},
    {"CreatedDate", "created_at", FormulaKind::datetime},
    {"Tags__c", "tags", FormulaKind::list},
    {"Account.Type", "account_type", FormulaKind::text},
};

std::string translate(std::string_view formula, size_t room = 65536) {
    std::vector<FormulaNode> nodes(formula.size() + 1);
    std::vector<char> buffer(room);
    FormulaTree tree = {nodes.data(), 0, -1};
    SqlText sql(buffer.data(), room);
    TextProblem problem;
    if (!formula_parse(formula, kFields, static_cast<int>(std::size(kFields)), &tree, &problem))
        return std::to_string(problem.at + 1) + ": " + problem.what +
               (problem.subject.empty() ? "" : " " + std::string(problem.subject)) +
               (problem.unknown_field ? " ?" : "");
    EXPECT_LE(tree.count, static_cast<int>(formula.size()) + 1);
    formula_write(tree, &sql);
    return sql.overflown() ? "overflown" : std::string(sql.text());
}

std::string filter(std::string_view text, const std::vector<std::string_view>& conditions) {
    char buffer[1000];
    SqlText sql(buffer, sizeof(buffer));
    TextProblem problem;
    if (!filter_write(text, conditions.data(), static_cast<int>(conditions.size()), &sql, &problem))
        return std::to_string(problem.at + 1) + ": " + problem.what +
               (problem.subject.empty() ? "" : " " + std::string(problem.subject));
    return std::string(sql.text());
}

struct Case {
    const char* formula;
    const char* sql;
};

TEST(Formula, IsTranslated) {
    const Case cases[] = {
        {"ISPICKVAL(Rating, \"Hot\")", "(attrs ->> 'rating') = 'Hot'"},
        {"Country = 'US'", "country = 'US'"},
        {"\"US\" == Lead.Country", "country = 'US'"},
        {"country != \"O'Hare \\\"x\\\"\"", "(country IS NULL OR country <> 'O''Hare \"x\"')"},
        {"Country = \"\"", "coalesce(country, '') = ''"},
        {"ISBLANK(Country)", "coalesce(country, '') = ''"},
        {"NOT(ISBLANK(Amount))", "(amount IS NULL) IS NOT TRUE"},
        {"!Hot__c", "(hot) IS NOT TRUE"},
        {"Hot__c = TRUE", "(hot IS TRUE) = (true IS TRUE)"},
        {"AND(Country = 'US', OR(Amount > 5, Hot__c))",
         "(country = 'US') AND ((amount > 5) OR hot)"},
        {"Country='US'&&Amount>=5||Hot__c", "((country = 'US') AND (amount >= 5)) OR hot"},
        {"Amount <> 5", "amount IS DISTINCT FROM 5"},
        {"Amount + 1 * 2 > -3", "(amount + (1 * 2)) > (-3)"},
        {"Amount / 4 > 2", "(amount::numeric / nullif(4::numeric, 0)) > 2"},
        {"BEGINS(Country, \"a_%\")", "country LIKE E'a\\\\_\\\\%%'"},
        {"BEGINS(Country, Rating)",
         "starts_with(coalesce(country, ''), coalesce((attrs ->> 'rating'), ''))"},
        {"CONTAINS('US:CA', Country)", "strpos('US:CA', coalesce(country, '')) > 0"},
        {"INCLUDES(Tags__c, \"x\")", "'x' = ANY (tags)"},
        {"INCLUDES(Country, 'x')",
         "strpos(';' || coalesce(country, '') || ';', ';' || 'x' || ';') > 0"},
        {"CASE(Country, 'US', 1, 'CA', 2, 0) > 1",
         "CASE coalesce(country, '') WHEN 'US' THEN 1 WHEN 'CA' THEN 2 ELSE 0 END > 1"},
        {"IF(Hot__c, Amount > 1, FALSE)", "CASE WHEN hot THEN amount > 1 ELSE false END"},
        {"Due__c - TODAY() < 7", "(due - current_date) < 7"},
        {"CreatedDate > NOW() - 7", "created_at > (now() - (7) * interval '1 day')"},
        {"Due__c = NULL", "due IS NULL"},
        {"NULL != Due__c", "due IS NOT NULL"},
        {"LEFT(LOWER(Account.Type), 2) = 'pa'",
         "left(lower(coalesce(account_type, '')), greatest(2::integer, 0)) = 'pa'"},
        {"LEN(Country & \"x\") = 3", "length(coalesce(country, '') || 'x') = 3"},
        {"BLANKVALUE(Country, 'US') = 'US'",
         "coalesce(nullif(coalesce(country, ''), ''), 'US') = 'US'"},
        {"Country = \"a\\\\b\"", "country = E'a\\\\b'"},
        {" /* any */ TRUE /* * */ ", "true"},
    };
    for (const Case& one : cases)
        EXPECT_EQ(translate(one.formula), one.sql) << one.formula;
}

TEST(Formula, IsRefusedWithThePosition) {
    const Case cases[] = {
        {"REGEX(Country, 'x')", "1: not translated: the function REGEX"},
        {"Amount > 1 && Nowhere__c", "15: no such field in the field map: Nowhere__c ?"},
        {"$User.Id = 'x'", "1: no such field in the field map: $User.Id ?"},
        {"Amount", "1: the formula must be true or false"},
        {"Amount = 'x'", "8: these values are not of one type ="},
        {"Tags__c = 'x'", "9: these values are not of one type ="},
        {"Country + 1 = 2", "9: no such calculation with values of these types +"},
        {"Country && Hot__c", "9: this joins what is true or false"},
        {"AND(Hot__c, 1)", "1: arguments of other types are expected by AND"},
        {"IF(Hot__c, TRUE)", "1: a wrong number of arguments for IF"},
        {"(Hot__c", "8: a closing parenthesis is missing"},
        {"Hot__c)", "7: unexpected )"},
        {"AND(Hot__c Hot__c)", "12: a comma or closing parenthesis is missing"},
        {"Country = 'US", "11: a text without its closing quote"},
        {"Country = 'US\\", "11: a text without its closing quote"},
        {"Hot__c /* no end", "8: a comment without its end"},
        {"Amount ^ 2 > 1", "8: not translated: ^"},
        {"Amount > ", "10: the formula ends too early"},
        {"", "1: the formula ends too early"},
        {"= 1", "1: unexpected ="},
    };
    for (const Case& one : cases)
        EXPECT_EQ(translate(one.formula), one.sql) << one.formula;
}

TEST(Formula, HasLimits) {
    EXPECT_EQ(translate(std::string(59, '(') + "TRUE" + std::string(59, ')')), "true");
    EXPECT_NE(
        translate(std::string(70, '(') + "TRUE" + std::string(70, ')')).find("nested too deeply"),
        std::string::npos);
    EXPECT_NE(translate(std::string(100000, '!') + "TRUE").find("nested too deeply"),
              std::string::npos);
    EXPECT_EQ(translate("Country = 'US'", 10), "overflown");
    std::string chain = "Hot__c", joined = "hot";
    for (int i = 0; i < 1000; i++) {
        chain += " && Hot__c";
        joined += " AND hot";
    }
    EXPECT_EQ(translate(chain), joined);
    EXPECT_NE(translate(chain + "||Hot__c").find("too many operators"), std::string::npos);
}

// Whatever is cut off or replaced: an answer, and no more nodes than there is room for.
TEST(Formula, SurvivesDamage) {
    const std::string whole =
        "AND(CASE(Country,'US',1,0)>0,BEGINS(Rating,\"x\\\"\"),!(Hot__c||Amount/2>-1))";
    for (size_t i = 0; i < whole.size(); i++) {
        (void)translate(whole.substr(0, i));
        (void)translate(whole.substr(i));
        for (char c : std::string("()'\"\\,!-=/*&|x1. \x80")) {
            std::string damaged = whole;
            damaged[i] = c;
            (void)translate(damaged);
        }
    }
}

TEST(Filter, IsTranslated) {
    EXPECT_EQ(filter("1 AND (2 OR 3)", {"a", "b", "c"}), "a AND (b OR c)");
    EXPECT_EQ(filter("(1 and 2)or(Not 3)", {"a", "b", "c"}), "(a AND b) OR ((c) IS NOT TRUE)");
    EXPECT_EQ(filter("NOT (1 OR (2 AND NOT 1))", {"a", "b"}),
              "(a OR (b AND (a) IS NOT TRUE)) IS NOT TRUE");
    EXPECT_EQ(filter("NOT NOT 1", {"a"}), "a");
    EXPECT_EQ(filter("((((1))))", {"a"}), "((((a))))");
}

TEST(Filter, IsRefusedWithThePosition) {
    EXPECT_EQ(filter("1 AND 3", {"a", "b"}), "7: no criterion has the number 3");
    EXPECT_EQ(filter("0", {"a"}), "1: no criterion has the number 0");
    EXPECT_EQ(filter("99999999999999999999", {"a"}),
              "1: no criterion has the number 99999999999999999999");
    EXPECT_EQ(filter("1 1", {"a"}), "3: unexpected 1");
    EXPECT_EQ(filter("(1", {"a"}), "3: a closing parenthesis is missing");
    EXPECT_EQ(filter("1 AND", {"a"}), "6: it ends too early");
    EXPECT_EQ(filter("1 XOR 1", {"a"}), "3: unexpected XOR");
    EXPECT_EQ(filter("AND 1", {"a"}), "1: the number of a criterion is expected before AND");
    EXPECT_EQ(filter("1 # 1", {"a"}), "3: not translated: #");
    EXPECT_NE(filter(std::string(1000, '(') + "1", {"a"}).find("nested too deeply"),
              std::string::npos);
}

} // namespace
} // namespace leadroute::core
