// Reads flat JSON objects and writes strings; nested values are refused.
#include "json.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *skip(const char *p) {
  while (isspace((unsigned char)*p)) p++;
  return p;
}
// A string after its opening quote; NULL when it does not end or does not fit.
static const char *read_string(const char *p, char *into, size_t room) {
  size_t n = 0;
  for (; *p && *p != '"'; p++) {
    if (*p == '\\') {
      p++;
      if (*p != '"' && *p != '\\' && *p != '/') return NULL;
    }
    if (n + 1 >= room) return NULL;
    into[n++] = *p;
  }
  into[n] = 0;
  return *p ? p + 1 : NULL;
}
static const char *read_value(const char *p, struct json_field *field) {
  field->is_string = *p == '"';
  if (field->is_string) return read_string(p + 1, field->text, sizeof field->text);
  size_t n = strcspn(p, ",} \t\r\n");
  if (n == 0 || n >= sizeof field->text) return NULL;
  memcpy(field->text, p, n);
  field->text[n] = 0;
  char *end;
  (void)strtod(field->text, &end);
  bool word = !strcmp(field->text, "true") || !strcmp(field->text, "false") || !strcmp(field->text, "null");
  return *end == 0 || word ? p + n : NULL;
}

const char *json_parse(const char *line, struct json *into) {
  into->count = 0;
  const char *p = skip(line);
  if (*p++ != '{') return "not an object";
  for (p = skip(p); *p != '}'; p = skip(p)) {
    if (into->count == JSON_FIELDS) return "too many fields";
    struct json_field *field = &into->fields[into->count];
    if (*p++ != '"') return "a name was expected";
    if (!(p = read_string(p, field->name, sizeof field->name))) return "a bad name";
    p = skip(p);
    if (*p++ != ':') return "a colon was expected";
    if (!(p = read_value(skip(p), field))) return "a value that is neither number, string nor boolean";
    into->count++;
    p = skip(p);
    if (*p == ',') p++;
    else if (*p != '}') return "a comma was expected";
  }
  return *skip(p + 1) ? "something after the object" : NULL;
}

static const struct json_field *find(const struct json *j, const char *name) {
  for (int i = 0; i < j->count; i++)
    if (!strcmp(j->fields[i].name, name)) return &j->fields[i];
  return NULL;
}
const char *json_text(const struct json *j, const char *name, const char *otherwise) {
  const struct json_field *field = find(j, name);
  return field ? field->text : otherwise;
}
double json_number(const struct json *j, const char *name, double otherwise) {
  const struct json_field *field = find(j, name);
  if (!field || field->is_string) return otherwise;
  if (!strcmp(field->text, "true")) return 1;
  char *end;
  double value = strtod(field->text, &end);
  return *end || end == field->text ? otherwise : value;
}
void json_print(const char *text) {
  putchar('"');
  for (; *text; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') putchar('\\');
    if (c < 0x20) printf("\\u%04x", c); else putchar(c);
  }
  putchar('"');
}
