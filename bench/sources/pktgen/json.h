// One line of JSON: an object of numbers, strings and booleans, as the search sends it.
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum { JSON_FIELDS = 32, JSON_TEXT = 256 };
struct json_field { char name[32]; char text[JSON_TEXT]; bool is_string; };
struct json { struct json_field fields[JSON_FIELDS]; int count; };

// Parses `line`; NULL, or what is wrong with it (static text).
const char *json_parse(const char *line, struct json *into);
// The text of field `name`, or `otherwise`.
const char *json_text(const struct json *j, const char *name, const char *otherwise);
// The number in field `name`, or `otherwise` when there is none or it is no number.
double json_number(const struct json *j, const char *name, double otherwise);
// Writes `text` as a JSON string to standard output.
void json_print(const char *text);
