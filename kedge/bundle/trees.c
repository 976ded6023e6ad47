/* Scores encoded rows of a boosted model with the bits that XGBoost, or LightGBM, gives. trees.py lays the arrays out
 * and says what they hold; tools/compile builds this file. A server finds little of a model in the processor's caches
 * when the next row comes, so a node is eight bytes, no step branches on data, and eight walks go side by side. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum { LANES = 8, BLOCK = 64, MAX_FEATURES = 1024 };
enum { IDENTITY, LOGISTIC, EXPONENTIAL, SOFTMAX };

typedef union {
    float number;
    uint32_t bits;
} Word;

/* number: threshold, or value of a leaf; bits: first word of the categories that go right, or place of a leaf in the
 * forest's values. The highest bit of feature says that a missing value goes right. left: place within the tree; its
 * right neighbour is the other child. */
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
    const double *values;           /* of LightGBM's leaves, which it adds up in 64 bits; of XGBoost's none */
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
                 Word *leaves)
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
        leaves[lane] = trees[lane][at[lane]].test;
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

/* The same of LightGBM's, whose steepness is that of its logistic function. */
static void link_doubles(const Forest *forest, double *margins, double steepness)
{
    if (forest->link == LOGISTIC)
        *margins = 1.0f / (1.0f + exp(-steepness * *margins));
    if (forest->link == EXPONENTIAL)
        *margins = exp(*margins);
    if (forest->link != SOFTMAX)
        return;
    double largest = margins[0], sum = 0;
    for (uint32_t place = 1; place < forest->classes; place++)
        largest = margins[place] > largest ? margins[place] : largest;
    for (uint32_t place = 0; place < forest->classes; place++)
        sum += margins[place] = exp(margins[place] - largest);
    for (uint32_t place = 0; place < forest->classes; place++)
        margins[place] /= sum;
}

/* Adds the leaves of one row's trees to sums, or totals, one a class, in the order of the trees: the last bit depends
 * on it. */
static void add_leaves(const Forest *forest, const float *row, float *sums, double *totals)
{
    Value values[MAX_FEATURES + 1];
    const Value *rows[LANES];
    const Node *trees[LANES];
    Word leaves[LANES];
    read_row(forest, row, values);
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
            if (totals)
                totals[class] += forest->values[leaves[lane].bits];
            else
                sums[class] += leaves[lane].number;
            class = class + 1 < forest->classes ? class + 1 : 0;
        }
    }
}

/* The scores of one row, one a class. */
void kedge_score_classes(const Forest *forest, const float *row, float *sums)
{
    for (uint32_t place = 0; place < forest->classes; place++)
        sums[place] = forest->bases[place];
    add_leaves(forest, row, sums, NULL);
    link(forest, sums);
}

/* The same of LightGBM's. */
void kedge_score_doubles(const Forest *forest, const float *row, double steepness, double *totals)
{
    for (uint32_t place = 0; place < forest->classes; place++)
        totals[place] = 0;
    add_leaves(forest, row, NULL, totals);
    link_doubles(forest, totals, steepness);
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
                Word leaves[LANES];
                for (size_t lane = 0; lane < LANES; lane++)
                    lanes[lane] = room + (row + lane < size ? row + lane : row) * width;
                walk(forest->categories, trees, lanes, forest->depths[tree], leaves);
                for (size_t lane = 0; lane < LANES && row + lane < size; lane++)
                    sums[(row + lane) * classes + tree % classes] += leaves[lane].number;
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
    return 3;
}
