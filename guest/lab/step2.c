// SPDX-License-Identifier: GPL-2.0 OR MIT
#define STEP 2
#include "lab.c"
