/* SPDX-License-Identifier: Apache-2.0
 * Aligned columns on stdout.  Cells may hold text that a sandbox or a kit chose, so control bytes
 * are never passed on to the terminal. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"

struct cli_table {
    size_t columns, rows, capacity;
    char **cells;  /* rows * columns, owned */
    size_t *width; /* of each column */
};

struct cli_table *cli_table_new(const char *const *headers)
{
    struct cli_table *table = sb_xcalloc(1, sizeof(*table));
    while (headers[table->columns]) {
        table->columns++;
    }
    table->width = sb_xcalloc(table->columns, sizeof(*table->width));
    cli_table_row(table, headers);
    return table;
}

void cli_table_row(struct cli_table *table, const char *const *cells)
{
    if (table->rows == table->capacity) {
        table->capacity = table->capacity ? table->capacity * 2 : 16;
        table->cells = sb_xrealloc(table->cells, table->capacity * table->columns, sizeof(char *));
    }
    char **row = table->cells + table->rows * table->columns;
    for (size_t i = 0; i < table->columns; i++) {
        row[i] = sb_printable(cells[i] ? cells[i] : "", "");
        size_t width = sb_columns(row[i]);
        if (width > table->width[i]) {
            table->width[i] = width;
        }
    }
    table->rows++;
}

static void print_row(const struct cli_table *table, size_t index)
{
    char *const *row = table->cells + index * table->columns;
    for (size_t i = 0; i < table->columns; i++) {
        fputs(row[i], stdout);
        if (i + 1 < table->columns) {
            printf("%*s", (int)(table->width[i] - sb_columns(row[i]) + 2), "");
        }
    }
    putchar('\n');
}

static bool stdout_has_colour(void)
{
    const char *no_color = secure_getenv("NO_COLOR");
    const char *term = secure_getenv("TERM");
    return isatty(STDOUT_FILENO) && (!no_color || !*no_color) && term && strcmp(term, "dumb") != 0;
}

void cli_table_print(struct cli_table *table)
{
    bool colour = stdout_has_colour();
    for (size_t i = 0; i < table->rows; i++) {
        bool heading = colour && i == 0;
        fputs(heading ? "\033[1m" : "", stdout);
        print_row(table, i);
        fputs(heading ? "\033[0m" : "", stdout);
    }
    for (size_t i = 0; i < table->rows * table->columns; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    free(table->width);
    free(table);
}
