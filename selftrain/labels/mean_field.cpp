// Mean field of a fully connected CRF (Kraehenbuehl & Koltun 2011): a smoothness kernel, convolved exactly up to four
// standard deviations, and an appearance kernel on the permutohedral lattice (Adams, Baek & Davis 2010). Both are normalised
// as D^-1/2 K D^-1/2 and weighted by a Potts compatibility. One thread; equal input gives equal bits on the same CPU.
//
// The classes of a pixel lie side by side, in packs of N floats that are computed together. Everything is inlined into
// mean_field(), which is compiled once for each kind of CPU.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#define INLINE inline __attribute__((always_inline))
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_CPU
#endif

namespace {

constexpr int DIMENSIONS = 5;  // of an appearance: x, y, red, green, blue
constexpr int CORNERS = DIMENSIONS + 1;  // of a simplex of the lattice
constexpr int ALIGNMENT = 64;
constexpr float LEAST = -87, MOST = 88;  // e to less or more than that is no normal float
constexpr float NEVER = -1e30f;
constexpr float LITTLE = 1e-30f, MUCH = 1e37f;  // sums of exponentials between these are exact
constexpr int MOST_PACKS = 32;  // of a pixel: 8 floats each, for 256 classes

// How many packs a pixel has, up to `most`; where that is one, the compiler knows it.
template <int most>
class Packs {
   public:
    explicit INLINE Packs(int count) : count(count) {}
    INLINE operator int() const { return most == 1 ? 1 : count; }

   private:
    int count;
};

struct Size {
    int classes, height, width;
    INLINE size_t pixels() const { return size_t(height) * width; }
};

struct Settings {
    int iterations;
    float gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat;
};

template <int N>
struct Of {
    typedef float Floats __attribute__((vector_size(4 * N)));
    typedef int32_t Ints __attribute__((vector_size(4 * N)));
};

enum Begin { ZEROS, AS_IT_IS };

// `size` packs, aligned for every CPU.
template <class T>
class Buffer {
   public:
    explicit INLINE Buffer(size_t size, Begin begin = ZEROS)
        : size(size), start(new (std::align_val_t(ALIGNMENT)) char[size * sizeof(T)]) {
        if (begin == ZEROS) clear();
    }
    INLINE ~Buffer() { operator delete[](start, std::align_val_t(ALIGNMENT)); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    INLINE T& operator[](size_t i) { return reinterpret_cast<T*>(start)[i]; }
    INLINE const T& operator[](size_t i) const { return reinterpret_cast<const T*>(start)[i]; }
    INLINE void clear() { std::memset(start, 0, size * sizeof(T)); }
    INLINE void swap(Buffer& other) { std::swap(start, other.start); }  // of equal sizes

   private:
    size_t size;
    char* start;
};

// The floats of a buffer from a pack on.
template <class Floats>
INLINE float* floats(Buffer<Floats>& buffer, size_t pack) { return reinterpret_cast<float*>(&buffer[pack]); }

template <int N>
INLINE typename Of<N>::Floats exponential(typename Of<N>::Floats x) {  // as in Cephes' expf; exact to 1e-7
    typedef typename Of<N>::Floats Floats;
    const Floats least = x < LEAST ? LEAST + Floats{} : x, clipped = least > MOST ? MOST + Floats{} : least;
    const Floats whole = (clipped * 1.44269504f + 12582912.0f) - 12582912.0f;  // powers of two, to the nearest
    const Floats rest = (clipped - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Floats sum = 1.9875691500e-4f * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    const typename Of<N>::Ints bits = (__builtin_convertvector(whole, typename Of<N>::Ints) + 127) << 23;
    Floats power;
    std::memcpy(&power, &bits, sizeof power);
    return sum * power;
}

// All N floats of a pack combined, in halves.
template <int N, class Combine>
INLINE float reduced(typename Of<N>::Floats pack, Combine combine) {
    if constexpr (N == 1) {
        return pack[0];
    } else {
        typename Of<N / 2>::Floats halves[2];
        std::memcpy(halves, &pack, sizeof pack);
        return reduced<N / 2>(combine(halves[0], halves[1]), combine);
    }
}

// Energies of a pixel to probabilities; `there` is 1 for the classes of the last pack and 0 for what is past them.
template <int N, class Floats = typename Of<N>::Floats>
INLINE void softmax(const Floats* energy, Floats* probs, int packs, Floats there) {
    const auto larger = [](auto a, auto b) __attribute__((always_inline)) { return a > b ? a : b; };
    const auto added = [](auto a, auto b) __attribute__((always_inline)) { return a + b; };
    const auto from = [&](float top) __attribute__((always_inline)) {
        Floats sum{};
        for (int i = 0; i < packs; i++) {
            probs[i] = exponential<N>(energy[i] - top);
            if (i == packs - 1) probs[i] *= there;
            sum += probs[i];
        }
        return reduced<N>(sum, added);
    };
    float all = from(0);
    if (!(all > LITTLE && all < MUCH)) {  // hardly ever: energies are logarithms of probabilities and a few compats
        Floats most = energy[0];
        for (int i = 1; i < packs; i++) most = larger(most, energy[i]);
        all = from(reduced<N>(most, larger));
    }
    for (int i = 0; i < packs; i++) probs[i] *= 1 / all;
}

// Neighbours of a row in one simplex of the lattice, as they often are: the pixels before `end`.
struct Run {
    size_t end;
    std::array<int32_t, CORNERS> vertices;
};

// The permutohedral lattice around the appearances of an image's pixels.
class Lattice {
   public:
    int32_t vertices = 1;  // vertex 0 stands for those that no pixel touches: its values stay 0
    std::vector<Run> runs;
    std::vector<std::array<float, CORNERS>> weights;  // (pixels): barycentric

    INLINE Lattice(const uint8_t* image, Size size, float sxy, float srgb) : weights(size.pixels()), keys(1), slots(1 << 16) {
        float scale[DIMENSIONS];  // so that the lattice's own blur has the variance that is asked for
        for (int i = 0; i < DIMENSIONS; i++)
            scale[i] = std::sqrt(2.0f / 3.0f) * CORNERS / std::sqrt(float((i + 1) * (i + 2))) / (i < 2 ? sxy : srgb);
        Simplex before{};
        size_t pixel = 0;
        runs.reserve(size.pixels());
        for (int y = 0; y < size.height; y++)
            for (int x = 0; x < size.width; x++, pixel++, image += 3) {
                const int appearance[DIMENSIONS] = {x, y, image[0], image[1], image[2]};
                float position[DIMENSIONS];
                for (int i = 0; i < DIMENSIONS; i++) position[i] = appearance[i] * scale[i];
                const Simplex simplex = enclose(position, weights[pixel].data());
                if (!x || !(simplex == before)) {
                    runs.emplace_back();
                    for (int i = 0; i < CORNERS; i++) runs.back().vertices[i] = vertex(simplex, i);
                }
                runs.back().end = pixel + 1;
                before = simplex;
            }
        connect();
    }

    // values (vertices, packs) blurred along the axes.
    template <class Floats>
    INLINE void blur(Buffer<Floats>& values, Buffer<Floats>& spare, int packs) const {
        for (int axis = 0; axis < CORNERS; axis++) {
            for (int32_t vertex = 1; vertex < vertices; vertex++) {
                const auto [before, after] = beside[size_t(axis) * vertices + vertex];
                for (int pack = 0; pack < packs; pack++)
                    spare[size_t(vertex) * packs + pack] =
                        values[size_t(vertex) * packs + pack] +
                        0.5f * (values[size_t(before) * packs + pack] + values[size_t(after) * packs + pack]);
            }
            values.swap(spare);
        }
    }

   private:
    typedef std::array<int32_t, DIMENSIONS> Key;  // of a vertex: its coordinates; the last one follows from the others
    struct Slot {
        int32_t vertex = 0;  // 0: free
        uint32_t tag = 0;  // of its key
    };
    struct Simplex {
        std::array<int32_t, CORNERS> origin, rank;  // its corner of remainder 0; the order of the coordinates around a point
        INLINE bool operator==(const Simplex& other) const { return origin == other.origin && rank == other.rank; }
    };

    std::vector<std::array<int32_t, 2>> beside;  // (CORNERS, vertices): the neighbours along each axis
    std::vector<Key> keys;  // (vertices)
    std::vector<Slot> slots;  // hash table of vertices

    // The simplex around a position, and the weights of its corners there.
    static INLINE Simplex enclose(const float* position, float* weight) {
        float elevated[CORNERS], sum = 0;
        for (int i = DIMENSIONS; i > 0; i--) {
            elevated[i] = sum - i * position[i - 1];
            sum += position[i - 1];
        }
        elevated[0] = sum;
        Simplex simplex;
        int32_t total = 0;
        for (int i = 0; i < CORNERS; i++) {
            const int32_t nearest = int32_t(std::floor(elevated[i] / CORNERS + 0.5f));
            simplex.origin[i] = nearest * CORNERS;
            simplex.rank[i] = 0;
            total += nearest;
        }
        for (int i = 0; i < DIMENSIONS; i++)
            for (int j = i + 1; j < CORNERS; j++) {
                const bool less = elevated[i] - simplex.origin[i] < elevated[j] - simplex.origin[j];
                simplex.rank[i] += less;
                simplex.rank[j] += !less;
            }
        float weights[CORNERS + 1] = {1};
        for (int i = 0; i < CORNERS; i++) {
            const int32_t rank = simplex.rank[i] + total;  // the rounded coordinates of a point in the plane need not be in it
            const int32_t turn = rank < 0 ? CORNERS : rank > DIMENSIONS ? -CORNERS : 0;
            simplex.rank[i] = rank + turn;
            simplex.origin[i] += turn;
            const float rest = (elevated[i] - simplex.origin[i]) / CORNERS;
            weights[DIMENSIONS - simplex.rank[i]] += rest;
            weights[CORNERS - simplex.rank[i]] -= rest;
        }
        weights[0] += weights[CORNERS];
        for (int i = 0; i < CORNERS; i++) weight[i] = weights[i];
        return simplex;
    }

    INLINE int32_t vertex(const Simplex& simplex, int corner) {
        Key key;
        for (int i = 0; i < DIMENSIONS; i++)
            key[i] = simplex.origin[i] + corner - (simplex.rank[i] > DIMENSIONS - corner ? CORNERS : 0);
        Slot& slot = find(key);
        if (slot.vertex) return slot.vertex;
        const int32_t made = slot.vertex = vertices++;
        keys.push_back(key);
        if (keys.size() * 2 > slots.size()) grow();
        return made;
    }

    // The slot of the vertex at `key`, or the free one that it would have.
    INLINE Slot& find(const Key& key) {
        uint64_t hash = 0;
        for (const int32_t coordinate : key) hash = (hash + uint32_t(coordinate)) * 0x9E3779B97F4A7C15u;
        const uint32_t tag = hash >> 32;
        for (size_t i = tag;; i++) {
            Slot& slot = slots[i & (slots.size() - 1)];
            if (!slot.vertex) slot.tag = tag;
            if (!slot.vertex || (slot.tag == tag && keys[slot.vertex] == key)) return slot;
        }
    }

    INLINE void grow() {
        slots.assign(slots.size() * 2, Slot{});
        for (int32_t vertex = 1; vertex < vertices; vertex++) find(keys[vertex]).vertex = vertex;
    }

    INLINE void connect() {
        beside.resize(size_t(CORNERS) * vertices);
        for (int axis = 0; axis < CORNERS; axis++)
            for (int32_t vertex = 1; vertex < vertices; vertex++) {
                Key key = keys[vertex];
                for (int i = 0; i < DIMENSIONS; i++) key[i] += i == axis ? -DIMENSIONS : 1;
                const int32_t after = find(key).vertex;
                beside[size_t(axis) * vertices + vertex][1] = after;
                if (after) beside[size_t(axis) * vertices + after][0] = vertex;
            }
    }
};

// The appearance kernel. In a pass over the pixels, run by run, each reads what was gathered in the pass before, and what it has
// become is gathered for the next.
template <int N, int PACKS>
class Appearance {
    typedef typename Of<N>::Floats Floats;

   public:
    // What the vertices of a run hold and are given, near at hand while the run lasts.
    struct Here {
        Floats held[CORNERS * PACKS], given[CORNERS * PACKS];
    };

    INLINE Appearance(const uint8_t* image, Size size, Packs<PACKS> packs, float sxy, float srgb)
        : lattice(image, size, sxy, srgb), packs(packs), values(size_t(lattice.vertices) * packs),
          gathered(size_t(lattice.vertices) * packs), spare(size_t(lattice.vertices) * packs) {
        Buffer<float> sums(lattice.vertices), others(lattice.vertices);
        size_t pixel = 0;
        for (const Run& run : lattice.runs)
            for (; pixel < run.end; pixel++)
                for (int i = 0; i < CORNERS; i++) sums[run.vertices[i]] += lattice.weights[pixel][i];
        lattice.blur(sums, others, 1);
        pixel = 0;
        for (const Run& run : lattice.runs)  // the normalisation becomes part of the weights
            for (; pixel < run.end; pixel++) {
                float sum = 0;
                for (int i = 0; i < CORNERS; i++) sum += lattice.weights[pixel][i] * sums[run.vertices[i]];
                for (int i = 0; i < CORNERS; i++) lattice.weights[pixel][i] *= 1 / std::sqrt(sum);
            }
    }

    INLINE const Run* runs() const { return lattice.runs.data(); }
    INLINE void enter(const Run& run, Here& here) const {
        for (int i = 0; i < CORNERS; i++)
            for (int pack = 0; pack < packs; pack++) {
                here.held[i * packs + pack] = values[size_t(run.vertices[i]) * packs + pack];
                here.given[i * packs + pack] = Floats{};
            }
    }
    INLINE Floats at(size_t pixel, int pack, const Here& here) const {
        Floats sum{};
        for (int i = 0; i < CORNERS; i++) sum += lattice.weights[pixel][i] * here.held[i * packs + pack];
        return sum;
    }
    INLINE void give(size_t pixel, const Floats* probs, Here& here) const {
        for (int i = 0; i < CORNERS; i++)
            for (int pack = 0; pack < packs; pack++) here.given[i * packs + pack] += lattice.weights[pixel][i] * probs[pack];
    }
    INLINE void leave(const Run& run, const Here& here) {
        for (int i = 0; i < CORNERS; i++)
            for (int pack = 0; pack < packs; pack++)
                gathered[size_t(run.vertices[i]) * packs + pack] += here.given[i * packs + pack];
    }
    // The pass is over.
    INLINE void turn() {
        lattice.blur(gathered, spare, packs);
        values.swap(gathered);
        gathered.clear();
    }

   private:
    Lattice lattice;
    Packs<PACKS> packs;
    Buffer<Floats> values, gathered, spare;
};

// The smoothness kernel: separable, and so is its normalisation.
template <int N, int PACKS>
class Smoothness {
    typedef typename Of<N>::Floats Floats;

   public:
    INLINE Smoothness(Size size, Packs<PACKS> packs, float deviation)
        : size(size), packs(packs), reach(std::min<float>(std::ceil(4 * deviation), std::max(size.height, size.width))),
          down(weights(size.height, deviation)), across(weights(size.width, deviation)), row(size_t(size.width) * packs) {}

    INLINE void gather(const Buffer<Floats>& probs, int y) {
        row.clear();
        for (int i = std::max(-reach, -y); i <= std::min(reach, size.height - 1 - y); i++) {
            const float weight = down[size_t(y) * (2 * reach + 1) + reach + i];
            const size_t first = size_t(y + i) * size.width * packs;
            for (size_t k = 0; k < size_t(size.width) * packs; k++) row[k] += weight * probs[first + k];
        }
    }
    INLINE Floats at(int x, int pack) const {
        Floats sum{};
        for (int i = std::max(-reach, -x); i <= std::min(reach, size.width - 1 - x); i++)
            sum += across[size_t(x) * (2 * reach + 1) + reach + i] * row[size_t(x + i) * packs + pack];
        return sum;
    }

   private:
    Size size;
    Packs<PACKS> packs;
    int reach;
    std::vector<float> down, across;  // (side, 2 * reach + 1)
    Buffer<Floats> row;

    INLINE std::vector<float> weights(int side, float deviation) const {
        std::vector<float> norm(side), result(size_t(side) * (2 * reach + 1));
        const auto kernel = [&](int i) { return std::exp(-0.5f * i * i / (deviation * deviation)); };
        for (int at = 0; at < side; at++) {
            float sum = 0;
            for (int i = std::max(-reach, -at); i <= std::min(reach, side - 1 - at); i++) sum += kernel(i);
            norm[at] = 1 / std::sqrt(sum);
        }
        for (int at = 0; at < side; at++)
            for (int i = std::max(-reach, -at); i <= std::min(reach, side - 1 - at); i++)
                result[size_t(at) * (2 * reach + 1) + reach + i] = kernel(i) * norm[at] * norm[at + i];
        return result;
    }
};

template <int N, int PACKS>
INLINE void infer(const float* unary, const uint8_t* image, float* marginals, Size size, const Settings& settings) {
    typedef typename Of<N>::Floats Floats;
    const Packs<PACKS> packs((size.classes + N - 1) / N);
    const size_t pixels = size.pixels(), width = size.width;
    Buffer<Floats> energy(pixels * packs, AS_IT_IS), probs(pixels * packs, AS_IT_IS), next(pixels * packs, AS_IT_IS);
    Floats there, sums[PACKS];
    typename Appearance<N, PACKS>::Here here{};
    for (int i = 0; i < N; i++) there[i] = (packs - 1) * N + i < size.classes;
    for (int y = 0; y < size.height; y++)  // class by class: a row stays in the cache
        for (int c = 0; c < packs * N; c++) {
            float* mine = floats(energy, y * width * packs) + c;
            const float* theirs = unary + c * pixels + y * width;
            for (size_t x = 0; x < width; x++) mine[x * packs * N] = c < size.classes ? theirs[x] : NEVER;
        }
    std::unique_ptr<Appearance<N, PACKS>> appearance;
    std::unique_ptr<Smoothness<N, PACKS>> smoothness;
    if (settings.iterations && settings.bilateral_compat)
        appearance.reset(new Appearance<N, PACKS>(image, size, packs, settings.bilateral_sxy, settings.bilateral_srgb));
    if (settings.iterations && settings.gaussian_compat)
        smoothness.reset(new Smoothness<N, PACKS>(size, packs, settings.gaussian_sxy));
    for (int iteration = 0; iteration <= settings.iterations; iteration++) {  // the first pass only takes the unaries
        const Run* run = appearance ? appearance->runs() : nullptr;
        size_t pixel = 0;
        for (int y = 0; y < size.height; y++) {
            const size_t row = pixel;
            if (smoothness && iteration) smoothness->gather(probs, y);
            while (pixel < row + width) {
                if (run) appearance->enter(*run, here);
                for (const size_t end = run ? run->end : row + width; pixel < end; pixel++) {
                    for (int pack = 0; pack < packs; pack++) {
                        Floats sum = energy[pixel * packs + pack];
                        if (smoothness && iteration) sum += settings.gaussian_compat * smoothness->at(pixel - row, pack);
                        if (run) sum += settings.bilateral_compat * appearance->at(pixel, pack, here);
                        sums[pack] = sum;
                    }
                    softmax<N>(sums, &next[pixel * packs], packs, there);
                    if (run) appearance->give(pixel, &next[pixel * packs], here);
                }
                if (run) appearance->leave(*run++, here);
            }
        }
        if (appearance && iteration < settings.iterations) appearance->turn();
        probs.swap(next);
    }
    for (int y = 0; y < size.height; y++)
        for (int c = 0; c < size.classes; c++)
            for (size_t x = 0; x < width; x++)
                marginals[c * pixels + y * width + x] = floats(probs, y * width * packs)[x * packs * N + c];
}

}  // namespace

// unary, marginals: (classes, height, width) log-probabilities and probabilities; image: (height, width, 3).
// Returns 1 where memory does not suffice.
extern "C" FOR_EACH_CPU int mean_field(const float* unary, const uint8_t* image, float* marginals, int classes, int height,
                                       int width, int iterations, float gaussian_sxy, float gaussian_compat,
                                       float bilateral_sxy, float bilateral_srgb, float bilateral_compat) {
    const Size size = {classes, height, width};
    const Settings settings = {iterations, gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat};
    try {
        if (classes <= 4)
            infer<4, 1>(unary, image, marginals, size, settings);
        else if (classes <= 8)
            infer<8, 1>(unary, image, marginals, size, settings);
        else if (classes <= 16)
            infer<16, 1>(unary, image, marginals, size, settings);
        else
            infer<8, MOST_PACKS>(unary, image, marginals, size, settings);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
