#include "longspan/base/declarations.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/suggest.h"
#include "longspan/base/error.h"
#include "longspan/base/json.h"
#include "longspan/base/size_text.h"

namespace longspan::base {
namespace {

using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
using Catch::Matchers::Equals;

/// One key of each kind, in sections, one of them within another.
struct Kitchen {
  bool heat = true;
  std::int64_t plates = 0;
  std::uint64_t seed = 7;
  double salt = 0.5;
  std::string cook = "Ann";
  std::string book;
  std::string course = "soup";
  std::vector<std::string> shelves;
  std::vector<double> portions;
  std::uint64_t fridge = 0;
  std::int64_t hands = 0;
  double warmth = 0;
  std::int64_t guests = 0;
  std::string slices = "auto";
  std::string spice = "none";
  Declarations keys{"Kitchen", "What is cooked."};

  Kitchen() {
    keys.text("cook", cook, "Who cooks.").at_least(1);
    keys.section("meal", "What is cooked.");
    keys.choice("meal.course", course, {{"soup", "liquid"}, {"roast", "solid"}}, "Which course.");
    keys.integer("meal.plates", plates, "How many.").required().at_least(1).at_most(100);
    keys.real("meal.salt", salt, "Part of salt | pepper.")
        .at_least(0)
        .below(1)
        .known_elsewhere_as({"na"});
    keys.boolean("meal.heat", heat, "Whether it is heated.");
    keys.section("meal.source", "Where it comes from.");
    keys.path("meal.source.book", book, "Cookbook.", {{"memory", "none is needed"}});
    keys.paths("meal.source.shelves", shelves, "Where to look.").at_least(1);
    keys.reals("meal.source.portions", portions, "Of each shelf.")
        .above(0)
        .at_most(10)
        .may_be_absent("all alike");
    keys.section("room", "Where it is cooked.");
    keys.integer("room.seed", seed, "Of the dice.");
    keys.size("room.fridge", fridge, "Its volume.").at_least(1).automatic("what fits");
    keys.integer("room.hands", hands, "Helpers.").at_least(1).automatic("who is there");
    keys.real("room.warmth", warmth, "Of the stove.")
        .above(0)
        .unit("degrees")
        .automatic("measured");
    keys.phrase("room.slices", slices, {{"auto", "as needed"}}, "a weight such as \"2kg\"",
                "How it is cut.")
        .or_count();
    keys.phrase("room.spice", spice, {{"none", "plain"}}, "names of spices", "What goes in.");
    keys.integer("room.guests", guests, "Guests.").at_least(1).may_be_absent("as many as plates");
  }
  void read(const std::string& text, const std::vector<std::string>& overrides = {}) {
    keys.read(parse_json(text, "k.json"), "k.json", overrides);
  }
  std::string refusal(const std::string& text, const std::vector<std::string>& overrides = {}) {
    try {
      read(text, overrides);
    } catch (const InputError& error) {
      return error.what();
    }
    return "accepted";
  }
  /// The refusal of one more member of "meal", or of "room".
  std::string meal(const std::string& member) {
    return refusal(R"({"meal": {"plates": 2, )" + member + "}}");
  }
  std::string room(const std::string& member) {
    return refusal(R"({"meal": {"plates": 2}, "room": {)" + member + "}}");
  }
  std::string set(const std::string& setting) {
    return refusal(R"({"meal": {"plates": 2}})", {setting});
  }
};

}  // namespace

TEST_CASE("declared keys take what the file gives and keep their defaults") {
  Kitchen kitchen;
  kitchen.read(R"({"$schema": "kitchen.json", "cook": "Bo", "meal": {"plates": 1e2, "salt": 0,
      "course": "roast", "heat": false, "source": {"book": "b.txt", "shelves": ["x", "y"]}},
      "room": {"seed": 18446744073709551615, "fridge": "1.5KiB", "hands": 3.0, "warmth": 2}})");
  CHECK(kitchen.cook == "Bo");
  CHECK(kitchen.plates == 100);
  CHECK(kitchen.salt == 0.0);
  CHECK(kitchen.course == "roast");
  CHECK_FALSE(kitchen.heat);
  CHECK(kitchen.book == "b.txt");
  CHECK(kitchen.shelves == std::vector<std::string>{"x", "y"});
  CHECK(kitchen.seed == 18446744073709551615ULL);
  CHECK(kitchen.fridge == 1536);
  CHECK(kitchen.hands == 3);
  CHECK(kitchen.warmth == 2.0);
  CHECK(kitchen.guests == 0);

  kitchen.read(R"({"meal": {"plates": 2}, "room": {"hands": "auto", "fridge": "auto"}})");
  CHECK(kitchen.cook == "Ann");
  CHECK(kitchen.salt == 0.5);
  CHECK(kitchen.heat);
  CHECK(kitchen.shelves.empty());
  CHECK(kitchen.seed == 7);
  CHECK(kitchen.fridge == 0);
  CHECK(kitchen.hands == 0);
}

TEST_CASE("a list of texts, or a word alone in its place") {
  std::vector<std::string> herbs = {"all"};
  Declarations keys("Garden", "What grows.");
  keys.texts("herbs", herbs, {{"all", "whatever grows"}}, "names such as [\"thyme\"]",
             "Which herbs.");
  const auto read = [&](const std::string& text) { keys.read_text(text, "g.json"); };
  read(R"({"herbs": ["thyme", "sage"]})");
  CHECK(herbs == std::vector<std::string>{"thyme", "sage"});
  CHECK_THAT(keys.to_json(), Contains("\"thyme\"") && !Contains("all"));
  read(R"({"herbs": "all"})");
  CHECK(herbs == std::vector<std::string>{"all"});
  read(R"({"herbs": ["all"]})");
  CHECK_THAT(keys.to_json(), Contains("\"herbs\": \"all\""));
  herbs = {"mint"};
  read("{}");
  CHECK(herbs == std::vector<std::string>{"all"});
  for (const char* wrong : {"\"thyme\"", "[]", "[1]", "[\"\"]", "null", "{}"}) {
    CHECK_THROWS_WITH(read(std::string(R"({"herbs": )") + wrong + "}"),
                      Contains("herbs is ") && Contains("\"all\" or names such as [\"thyme\"]"));
  }
  CHECK_THAT(keys.schema(), Contains("\"const\": \"all\"") && Contains("\"minItems\": 1"));
}

TEST_CASE("values that are not legal are named with what is") {
  Kitchen kitchen;
  CHECK_THAT(kitchen.meal(R"("salt": 1)"),
             Equals("k.json: meal.salt is 1; legal: number in [0, 1)"));
  CHECK_THAT(kitchen.meal(R"("salt": -1e-300)"), Contains("meal.salt is -1e-300"));
  CHECK_THAT(kitchen.meal(R"("salt": "0.5")"), Contains("meal.salt is \"0.5\"; legal: number"));
  CHECK_THAT(kitchen.meal(R"("salt": true)"), Contains("meal.salt is true"));
  CHECK_THAT(kitchen.meal(R"("salt": null)"), Contains("meal.salt is null; leave the key out"));
  CHECK_THAT(kitchen.meal(R"("heat": 1)"), Equals("k.json: meal.heat is 1; legal: true or false"));
  CHECK_THAT(kitchen.meal(R"("course": "cake")"),
             Equals("k.json: meal.course is \"cake\"; legal: \"soup\" or \"roast\""));
  CHECK_THAT(kitchen.meal(R"("source": {"shelves": "x"})"),
             Contains("meal.source.shelves is \"x\"; legal: list of paths"));
  CHECK_THAT(kitchen.meal(R"("source": {"shelves": []})"), Contains("at least one"));
  CHECK_THAT(kitchen.meal(R"("source": {"shelves": ["x", ""]})"), Contains("none empty"));
  CHECK(kitchen.meal(R"("source": {"portions": [1, 0.5, 1e1]})") == "accepted");
  CHECK(kitchen.portions == std::vector<double>{1, 0.5, 10});
  for (const char* portions : {"[]", "1", "[1, 0]", "[11]", "[\"1\"]", "[null]"}) {
    CHECK_THAT(kitchen.meal(std::string(R"("source": {"portions": )") + portions + "}"),
               Contains("legal: list of numbers, at least one, each in (0, 10]"));
  }
  CHECK_THAT(kitchen.meal(R"("source": {"book": "a\u0000b"})"), Contains("\"memory\" or a path"));
  CHECK_THAT(kitchen.refusal(R"({"cook": ""})"), Contains("cook is \"\"; legal: text, not empty"));
  CHECK_THAT(kitchen.room(R"("fridge": 0)"), Contains("legal: size >= 1 in bytes"));
  CHECK_THAT(kitchen.room(R"("fridge": "1Gib")"), Contains("room.fridge is \"1Gib\""));
  CHECK_THAT(kitchen.room(R"("fridge": -5)"), Contains("or \"auto\""));
  CHECK_THAT(kitchen.room(R"("hands": 0)"),
             Equals("k.json: room.hands is 0; legal: integer >= 1, or \"auto\""));
  CHECK_THAT(kitchen.room(R"("warmth": 0)"), Contains("legal: number > 0 (degrees), or \"auto\""));
  CHECK_THAT(kitchen.room(R"("guests": 0)"), Contains("room.guests is 0; legal: integer >= 1"));
  const std::string long_text = kitchen.meal(fmt::format(R"("course": "{:x<100000}")", ""));
  CHECK(long_text.size() < 200);
}

TEST_CASE("integers are whole and fit") {
  Kitchen kitchen;
  CHECK_THAT(kitchen.refusal(R"({"meal": {"plates": 3.5}})"),
             Equals("k.json: meal.plates is 3.5; legal: integer in [1, 100]"));
  CHECK_THAT(kitchen.refusal(R"({"meal": {"plates": 101}})"), Contains("is 101"));
  CHECK_THAT(kitchen.refusal(R"({"meal": {"plates": 0}})"), Contains("is 0"));
  CHECK_THAT(kitchen.refusal(R"({"meal": {"plates": 18446744073709551615}})"), Contains("is 184"));
  CHECK_THAT(kitchen.refusal(R"({"meal": {"plates": 1e300}})"), Contains("is 1e+300"));
  CHECK_THAT(kitchen.room(R"("seed": -1)"), Contains("room.seed is -1; legal: integer >= 0"));
  CHECK_THAT(kitchen.room(R"("seed": 18446744073709551616)"), Contains("room.seed is 1.844"));
  CHECK_THAT(kitchen.room(R"("seed": 1e18)"), Contains("room.seed is 1e+18"));
  CHECK(kitchen.room(R"("seed": 9007199254740992.0)") == "accepted");
}

TEST_CASE("keys that are not known are met with the closest that is") {
  Kitchen kitchen;
  CHECK_THAT(kitchen.meal(R"("slat": 0)"),
             Equals("k.json: meal.slat: unknown key; did you mean meal.salt?"));
  CHECK_THAT(kitchen.meal(R"("Salt": 0)"), EndsWith("did you mean meal.salt?"));
  CHECK_THAT(kitchen.meal(R"("na": 0)"), EndsWith("did you mean meal.salt?"));
  CHECK_THAT(kitchen.meal(R"("seed": 0)"), EndsWith("did you mean room.seed?"));
  CHECK_THAT(kitchen.meal(R"("zzz": 0)"),
             Equals("k.json: meal.zzz: unknown key; legal in meal: course, plates, salt, heat, "
                    "source"));
  CHECK_THAT(kitchen.refusal(R"({"room": {}, "mael": {"plates": 2}})"),
             Equals("k.json: mael: unknown section; did you mean meal?"));
  CHECK_THAT(kitchen.refusal(R"({"plates": 2})"), EndsWith("did you mean meal.plates?"));
  CHECK_THAT(kitchen.refusal(R"({"source": {}})"), EndsWith("did you mean meal.source?"));
  CHECK_THAT(kitchen.refusal(R"({"zzz": {}})"), EndsWith("legal at the top: cook, meal, room"));
  CHECK_THAT(kitchen.refusal(R"({"": 1})"), Contains("unknown key; legal at the top"));
  CHECK_THAT(kitchen.meal(R"("$schema": "x")"), Contains("meal.$schema: unknown key"));
  CHECK(kitchen.meal(fmt::format(R"("{:s<100000}": 0)", "")).size() < 250);
}

TEST_CASE("the shape of the file is checked") {
  Kitchen kitchen;
  CHECK_THAT(kitchen.refusal("[1]"), Contains("found [1]; expected an object"));
  CHECK_THAT(kitchen.refusal(R"({"meal": 3})"),
             Contains("meal is 3; legal: an object {...} with the keys course, plates"));
  CHECK_THAT(kitchen.refusal(R"({"meal": null})"), Contains("meal is null"));
  CHECK_THAT(kitchen.refusal(R"({"meal.plates": 2})"), Contains("\"meal.plates\" has a dot"));
  CHECK_THAT(kitchen.refusal(R"({"meal.source": {}})"), Contains("meal.source: unknown section"));
  CHECK_THAT(kitchen.refusal(R"({"$schema": 1})"), Contains("$schema is 1; legal: text"));
  CHECK_THAT(kitchen.refusal("{}"),
             Equals("k.json: required but missing: meal.plates (integer in [1, 100])"));
}

TEST_CASE("overrides win over the file") {
  Kitchen kitchen;
  kitchen.read(R"({"meal": {"plates": 2, "salt": 0.25}, "room": {"hands": 4}})",
               {"meal.plates=3", "meal.plates=5", "cook=123", "meal.source.book=a=b.txt",
                "meal.source.shelves=[\"p\"]", "room.hands=auto", "room.fridge=2MiB",
                "meal.heat=false", "meal.course=\"roast\""});
  CHECK(kitchen.plates == 5);
  CHECK(kitchen.salt == 0.25);
  CHECK(kitchen.cook == "123");
  CHECK(kitchen.book == "a=b.txt");
  CHECK(kitchen.shelves == std::vector<std::string>{"p"});
  CHECK(kitchen.hands == 0);
  CHECK(kitchen.fridge == 2097152);
  CHECK_FALSE(kitchen.heat);
  CHECK(kitchen.course == "roast");
  CHECK(kitchen.refusal("{}", {"meal.plates=2"}) == "accepted");

  CHECK_THAT(kitchen.set("meal.salt=much"),
             Equals("--set: meal.salt is \"much\"; legal: number in [0, 1)"));
  CHECK_THAT(kitchen.set("meal.salt="), Contains("meal.salt is \"\""));
  CHECK_THAT(kitchen.set("meal.salt=null"), Contains("meal.salt is null"));
  CHECK_THAT(kitchen.set("meal.salt"), Contains("expected key=value"));
  CHECK_THAT(kitchen.set("=1"), Contains("expected key=value"));
  CHECK_THAT(kitchen.set("meal={}"), Contains("meal is a section; set one key of it: course"));
  CHECK_THAT(kitchen.set("meal.slat=1"), EndsWith("did you mean meal.salt?"));
  CHECK_THAT(kitchen.set("male.salt=1"), EndsWith("did you mean meal.salt?"));
  CHECK_THAT(kitchen.set("salt=1"), EndsWith("did you mean meal.salt?"));
  CHECK_THAT(kitchen.set("zzz.yyy=1"), EndsWith("legal at the top: cook, meal, room"));
  CHECK_THAT(kitchen.set("cook=\xFF"), Contains("cook: the value is not UTF-8 text"));
}

TEST_CASE("what is written reads as the same") {
  Kitchen first;
  first.read(R"({"meal": {"plates": 2, "salt": 0.1, "source": {"shelves": ["é"]}},
                 "room": {"seed": 18446744073709551615, "fridge": "3GB", "warmth": 1e-9}})");
  const std::string text = first.keys.to_json();
  Kitchen second;
  second.read(text);
  CHECK(second.keys.to_json() == text);
  CHECK(second.salt == 0.1);
  CHECK(second.seed == 18446744073709551615ULL);
  CHECK(second.fridge == 3000000000);
  CHECK(second.warmth == 1e-9);
  const auto json = nlohmann::ordered_json::parse(text);
  CHECK(json.begin().key() == "cook");
  CHECK(
      json.at("room").dump() ==
      R"({"seed":18446744073709551615,"fridge":3000000000,"hands":"auto","warmth":1e-09,"slices":"auto","spice":"none"})");
}

TEST_CASE("a phrase is a word, another text, or, where told, a whole number") {
  Kitchen kitchen;
  kitchen.read(R"({"meal": {"plates": 2}, "room": {"slices": 12, "spice": "salt and pepper"}})");
  CHECK(kitchen.slices == "12");
  CHECK(kitchen.spice == "salt and pepper");
  CHECK_THAT(kitchen.keys.to_json(), Contains("\"slices\": 12"));
  kitchen.read(R"({"meal": {"plates": 2}})", {"room.slices=2kg"});
  CHECK(kitchen.slices == "2kg");
  const char* legal = "legal: \"auto\" or a weight such as \"2kg\"";
  for (const char* value : {"0", "-1", "1.5", "true", "\"12\"", "\"\"", "[]"}) {
    INFO(value);
    CHECK_THAT(kitchen.room(fmt::format("\"slices\": {}", value)), Contains(legal));
  }
  CHECK_THAT(kitchen.room("\"spice\": 3"), Contains("\"none\" or names of spices"));
  const auto schema = parse_json(kitchen.keys.schema(), "schema");
  const auto& room = schema.at("properties").at("room").at("properties");
  CHECK(room.at("slices").at("anyOf").at(1).at("minimum") == 1);
  CHECK(room.at("spice").at("type") == "string");
}

TEST_CASE("the schema says the same as the reader") {
  const auto schema = parse_json(Kitchen().keys.schema(), "schema");
  CHECK(schema.at("$schema") == "https://json-schema.org/draft/2020-12/schema");
  CHECK(schema.at("additionalProperties") == false);
  CHECK(schema.at("required") == nlohmann::json({"meal"}));
  CHECK(schema.at("properties").at("$schema").at("type") == "string");
  const auto& meal = schema.at("properties").at("meal");
  CHECK(meal.at("additionalProperties") == false);
  CHECK(meal.at("required") == nlohmann::json({"plates"}));
  const auto& keys = meal.at("properties");
  CHECK(keys.at("plates").at("type") == "integer");
  CHECK(keys.at("plates").at("minimum") == 1);
  CHECK(keys.at("plates").at("maximum") == 100);
  CHECK_FALSE(keys.at("plates").contains("default"));
  CHECK(keys.at("salt").at("exclusiveMaximum") == 1);
  CHECK(keys.at("salt").at("default") == 0.5);
  CHECK(keys.at("course").at("enum") == nlohmann::json({"soup", "roast"}));
  CHECK(keys.at("source").at("properties").at("shelves").at("minItems") == 1);
  const auto& room = schema.at("properties").at("room").at("properties");
  CHECK(room.at("fridge").at("anyOf").size() == 3);
  CHECK(room.at("fridge").at("default") == "auto");
  CHECK(room.at("hands").at("anyOf").at(1).at("const") == "auto");
  CHECK_FALSE(room.at("guests").contains("default"));
  CHECK_THAT(room.at("warmth").at("description").get<std::string>(), Contains("(degrees)"));
}

TEST_CASE("help and tables show every key") {
  const Kitchen kitchen;
  const std::string help = kitchen.keys.help();
  CHECK_THAT(help, Contains("  meal.plates  integer in [1, 100]; required\n      How many.\n"));
  CHECK_THAT(help, Contains("Which course. \"soup\": liquid; \"roast\": solid."));
  const std::string table = kitchen.keys.markdown();
  CHECK_THAT(table, Contains("### `meal.source`\n\nWhere it comes from.\n"));
  CHECK_THAT(table, Contains("| `salt` | number | in [0, 1) | `0.5` | Part of salt \\| pepper. |"));
  CHECK_THAT(table, Contains("| `guests` | integer | >= 1 | as many as plates |"));
}

TEST_CASE("a key is declared once, in a section that is declared") {
  Kitchen kitchen;
  CHECK_THROWS_AS(kitchen.keys.boolean("meal.heat", kitchen.heat, "Again."), InternalError);
  CHECK_THROWS_AS(kitchen.keys.boolean("bath.heat", kitchen.heat, "Nowhere."), InternalError);
  CHECK_THROWS_AS(kitchen.keys.section("meal", "Again."), InternalError);
}

TEST_CASE("a key that another stands in for is required without that one") {
  std::string recipe;
  std::int64_t eggs = 0;
  Declarations keys("Pan", "What goes in.");
  keys.section("pan", "It.");
  keys.path("pan.recipe", recipe, "Book.").at_least(1).may_be_absent("by heart");
  keys.integer("pan.eggs", eggs, "How many.").required_unless("pan.recipe").at_least(1);
  keys.read_text(R"({"pan": {"recipe": "b"}})", "k.json");
  CHECK(eggs == 0);
  keys.read_text(R"({"pan": {"eggs": 2}})", "k.json");
  CHECK(eggs == 2);
  CHECK(recipe.empty());
  CHECK(nlohmann::json::parse(keys.to_json()) == nlohmann::json::parse(R"({"pan": {"eggs": 2}})"));
  CHECK_THROWS_WITH(keys.read_text(R"({"pan": {}})", "k.json"),
                    Contains("required but missing: pan.eggs (integer >= 1)"));
  CHECK_THROWS_WITH(keys.read_text(R"({"pan": {"recipe": ""}})", "k.json"), Contains("pan.recipe"));
  CHECK_THAT(keys.markdown(), Contains("| `eggs` | integer | >= 1 | required, or recipe |"));
  const auto schema = nlohmann::json::parse(keys.schema());
  CHECK(schema.at("required") == nlohmann::json({"pan"}));
  CHECK(schema.at("properties").at("pan").at("anyOf") ==
        nlohmann::json::parse(R"([{"required": ["recipe"]}, {"required": ["eggs"]}])"));
}

TEST_CASE("sizes are read with their units") {
  CHECK(parse_size("0B") == 0);
  CHECK(parse_size("512MiB") == 536870912);
  CHECK(parse_size("1.5 GiB") == 1610612736);
  CHECK(parse_size("2GB") == 2000000000);
  CHECK(parse_size("0.1KiB") == 102);
  for (const char* text : {"", "1", "GiB", "1G", "1 GiB ", "1  GiB", "-1GiB", ".5GiB", "1.GiB",
                           "1.2.3GiB", "1e3B", "9000TiB9", "9999999999TiB", "+1B", "1,5GiB"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text).has_value());
  }
}

TEST_CASE("slips are counted as typed") {
  CHECK(typing_slips("", "abc") == 3);
  CHECK(typing_slips("salt", "slat") == 1);
  CHECK(typing_slips("Learning-Rate", "learning_rate") == 0);
  CHECK(typing_slips("kitten", "sitting") == 3);
  CHECK(closest("lr", {{"la", "no"}, {"lr", "yes"}}) == "yes");
  CHECK_FALSE(closest("xy", {{"xz", "no"}}).has_value());
  CHECK(closest("warmup", {{"wamrups", "slips"}, {"warmup_steps", "part"}}) == "slips");
  CHECK(closest("warmup", {{"warmth_and_more", "no"}, {"warmup_steps", "part"}}) == "part");
  CHECK(closest("abcd", {{"abcd", "far", true}, {"abcd", "near"}}) == "near");
  CHECK_FALSE(closest(std::string(65, 'a'), {{std::string(65, 'a'), "no"}}).has_value());
}

}  // namespace longspan::base
