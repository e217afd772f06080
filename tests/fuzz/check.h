/* SPDX-License-Identifier: Apache-2.0
 *
 * CHECK: what must hold for every input of a fuzz target; libFuzzer keeps the input for which it does not.
 */
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                            \
    do {                                                                       \
        if (!(what)) {                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what);         \
            abort();                                                           \
        }                                                                      \
    } while (0)
