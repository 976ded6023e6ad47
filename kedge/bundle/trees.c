/* Scores encoded rows of a boosted model with the bits XGBoost gives. trees.py lays the arrays out and says what they
 * hold; tools/compile builds this file. A server finds little of a model in the processor's caches when the next row
 * comes, so a node is eight bytes, no step branches on data, and eight walks go side by side. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { LANES = 8, BLOCK = 64, MAX_FEATURES = 1024 };
enum { IDENTITY, LOGISTIC, EXPONENTIAL, SOFTMAX };

typedef union {
    float number;
    uint32_t bits;
} Word;

/* number: threshold, or value of a leaf; bits: first word of the categories that go right. The highest bit of feature
 * says that a missing value goes right. left: place within the tree; its right neighbour is the other child. */
typedef struct {
    Word test;
    uint16_t feature, left;
} Node;

typedef struct {
    const Node *nodes;
    const uint32_t *roots, *depths; /* by tree */
    const uint32_t *categories;     /* one bit a code; the first word is 0 */
    const uint32_t *codes;          /* by feature: how many codes any node knows, 0 for a number */
    const float *bases;             /* by class; one for what is no softmax */
    uint32_t trees, features, link, classes; /* tree k adds to the class k modulo classes */
} Forest;

/* One value as every kind of node may ask for it: a category is no number, and a number has the code 0 in word 0. */
typedef struct {
    float number;
    uint32_t mask, code, missing;
} Value;

static Value value_of(float given, uint32_t codes)
{
    uint32_t missing = given != given;
    if (!codes)
        return (Value){given, 0, 0, missing};
    uint32_t code = given >= 0 && given < (float)codes ? (uint32_t)given : codes; /* the bit of codes is never set */
    return (Value){NAN, UINT32_MAX, code, missing};
}

static void read_row(const Forest *forest, const float *row, Value *values)
{
    for (uint32_t place = 0; place < forest->features; place++)
        values[place] = value_of(row[place], forest->codes[place]);
    values[forest->features] = (Value){NAN, 0, 0, 0}; /* what a leaf asks for: it stays where it is */
}

static void walk(const uint32_t *categories, const Node *const *trees, const Value *const *rows, uint32_t depth,
                 float *leaves)
{
    uint32_t at[LANES] = {0};
    while (depth--)
        for (int lane = 0; lane < LANES; lane++) {
            Node node = trees[lane][at[lane]];
            const Value *value = rows[lane] + (node.feature & 0x7fff);
            uint32_t word = categories[(node.test.bits & value->mask) + (value->code >> 5)];
            uint32_t right = (value->number >= node.test.number) | (word >> (value->code & 31) & 1)
                             | (value->missing & node.feature >> 15);
            at[lane] = node.left + right;
        }
    for (int lane = 0; lane < LANES; lane++)
        leaves[lane] = trees[lane][at[lane]].test.number;
}

/* The margins of a row become its scores, as XGBoost computes them. */
static void link(const Forest *forest, float *margins)
{
    if (forest->link == LOGISTIC)
        *margins = 1.0f / (1.0f + expf(fminf(-*margins, 88.7f)));
    if (forest->link == EXPONENTIAL)
        *margins = expf(*margins);
    if (forest->link != SOFTMAX)
        return;
    float largest = margins[0];
    double sum = 0;
    for (uint32_t place = 1; place < forest->classes; place++)
        largest = fmaxf(margins[place], largest);
    for (uint32_t place = 0; place < forest->classes; place++)
        sum += margins[place] = expf(margins[place] - largest);
    for (uint32_t place = 0; place < forest->classes; place++)
        margins[place] /= (float)sum;
}

/* The scores of one row, one a class. Sums are made in the order of the trees: the last bit depends on it. */
void kedge_score_classes(const Forest *forest, const float *row, float *sums)
{
    Value values[MAX_FEATURES + 1];
    const Value *rows[LANES];
    const Node *trees[LANES];
    float leaves[LANES];
    read_row(forest, row, values);
    for (uint32_t place = 0; place < forest->classes; place++)
        sums[place] = forest->bases[place];
    for (int lane = 0; lane < LANES; lane++)
        rows[lane] = values;
    for (uint32_t first = 0, class = 0; first < forest->trees; first += LANES) {
        uint32_t count = forest->trees - first < LANES ? forest->trees - first : LANES, depth = 0;
        for (uint32_t lane = 0; lane < LANES; lane++) {
            uint32_t tree = first + (lane < count ? lane : 0);
            trees[lane] = forest->nodes + forest->roots[tree];
            depth = forest->depths[tree] > depth ? forest->depths[tree] : depth;
        }
        walk(forest->categories, trees, rows, depth, leaves);
        for (uint32_t lane = 0; lane < count; lane++) {
            sums[class] += leaves[lane];
            class = class + 1 < forest->classes ? class + 1 : 0;
        }
    }
    link(forest, sums);
}

/* The score of one row of a model that has one. */
float kedge_score_row(const Forest *forest, const float *row)
{
    float score;
    kedge_score_classes(forest, row, &score);
    return score;
}

/* The scores of many rows; room has BLOCK * (features + 1) values. */
void kedge_score_rows(const Forest *forest, const float *rows, size_t count, Value *room, float *scores)
{
    size_t width = forest->features + 1;
    for (size_t start = 0; start < count; start += BLOCK) {
        size_t size = count - start < BLOCK ? count - start : BLOCK;
        size_t classes = forest->classes;
        float *sums = scores + start * classes;
        for (size_t row = 0; row < size; row++) {
            read_row(forest, rows + (start + row) * forest->features, room + row * width);
            for (size_t place = 0; place < classes; place++)
                sums[row * classes + place] = forest->bases[place];
        }
        for (uint32_t tree = 0; tree < forest->trees; tree++) {
            const Node *trees[LANES];
            for (int lane = 0; lane < LANES; lane++)
                trees[lane] = forest->nodes + forest->roots[tree];
            for (size_t row = 0; row < size; row += LANES) {
                const Value *lanes[LANES];
                float leaves[LANES];
                for (size_t lane = 0; lane < LANES; lane++)
                    lanes[lane] = room + (row + lane < size ? row + lane : row) * width;
                walk(forest->categories, trees, lanes, forest->depths[tree], leaves);
                for (size_t lane = 0; lane < LANES && row + lane < size; lane++)
                    sums[(row + lane) * classes + tree % classes] += leaves[lane];
            }
        }
        for (size_t row = 0; row < size; row++)
            link(forest, sums + row * classes);
    }
}

/* The margin of a base score that is a probability, as XGBoost computes it. */
float kedge_logit(float probability)
{
    return -logf(1.0f / probability - 1.0f);
}

/* The margin of a base score that is a mean count, as XGBoost computes it. */
float kedge_log(float mean)
{
    return logf(mean);
}

/* What trees.py has to agree on. */
uint32_t kedge_layout(void)
{
    return 2;
}
