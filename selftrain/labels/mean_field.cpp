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
constexpr float LEAST = -87;  // e to less than that is no normal float
constexpr float NEVER = -1e30f;

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

// `size` packs of zeros, aligned for every CPU.
template <class T>
class Buffer {
   public:
    explicit INLINE Buffer(size_t size) : size(size), start(new (std::align_val_t(ALIGNMENT)) char[size * sizeof(T)]) { clear(); }
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

template <int N>
INLINE typename Of<N>::Floats exponential(typename Of<N>::Floats x) {  // as in Cephes' expf; exact to 1e-7
    typedef typename Of<N>::Floats Floats;
    const Floats clipped = x < LEAST ? LEAST + Floats{} : x;
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

// Energies of a pixel to probabilities, in place; `there` is 1 for the classes of the last pack and 0 for what is past them.
template <int N>
INLINE void softmax(typename Of<N>::Floats* pixel, int packs, typename Of<N>::Floats there) {
    typedef typename Of<N>::Floats Floats;
    const auto larger = [](auto a, auto b) __attribute__((always_inline)) { return a > b ? a : b; };
    const auto added = [](auto a, auto b) __attribute__((always_inline)) { return a + b; };
    Floats most = pixel[0], sum{};
    for (int i = 1; i < packs; i++) most = larger(most, pixel[i]);
    const float top = reduced<N>(most, larger);
    for (int i = 0; i < packs; i++) {
        pixel[i] = exponential<N>(pixel[i] - top);
        if (i == packs - 1) pixel[i] *= there;
        sum += pixel[i];
    }
    const float all = reduced<N>(sum, added);
    for (int i = 0; i < packs; i++) pixel[i] *= 1 / all;
}

// The permutohedral lattice around the appearances of an image's pixels.
class Lattice {
   public:
    int32_t vertices = 1;  // vertex 0 stands for those that no pixel touches: its values stay 0

    INLINE Lattice(const uint8_t* image, Size size, float sxy, float srgb)
        : corners(size.pixels() * CORNERS), keys(1), slots(1 << 16) {
        float scale[DIMENSIONS];  // so that the lattice's own blur has the variance that is asked for
        for (int i = 0; i < DIMENSIONS; i++)
            scale[i] = std::sqrt(2.0f / 3.0f) * CORNERS / std::sqrt(float((i + 1) * (i + 2))) / (i < 2 ? sxy : srgb);
        Corner* corner = corners.data();
        Simplex before{};
        for (int y = 0; y < size.height; y++)
            for (int x = 0; x < size.width; x++, image += 3, corner += CORNERS) {
                const int appearance[DIMENSIONS] = {x, y, image[0], image[1], image[2]};
                float position[DIMENSIONS];
                for (int i = 0; i < DIMENSIONS; i++) position[i] = appearance[i] * scale[i];
                const Simplex simplex = enclose(position, corner);
                const bool same = corner != corners.data() && simplex == before;  // as it often is for a pixel's neighbour
                for (int i = 0; i < CORNERS; i++) corner[i].vertex = same ? (corner - CORNERS)[i].vertex : vertex(simplex, i);
                before = simplex;
            }
        connect();
    }

    // values (vertices, packs): each pixel's packs, times its `factor`, spread over its corners and blurred along the axes.
    template <class Floats>
    INLINE void gather(const Buffer<Floats>& pixels, const Buffer<float>& factor, int packs, Buffer<Floats>& values,
                       Buffer<Floats>& spare) const {
        values.clear();
        for (size_t i = 0; i < corners.size(); i++) {
            const size_t pixel = i / CORNERS;
            const float weight = corners[i].weight * factor[pixel];
            for (int pack = 0; pack < packs; pack++)
                values[size_t(corners[i].vertex) * packs + pack] += weight * pixels[pixel * packs + pack];
        }
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

    // A pack of what `values` are at a pixel.
    template <class Floats>
    INLINE Floats at(size_t pixel, const Buffer<Floats>& values, int packs, int pack) const {
        Floats sum{};
        for (const Corner* corner = &corners[pixel * CORNERS]; corner != &corners[pixel * CORNERS] + CORNERS; corner++)
            sum += corner->weight * values[size_t(corner->vertex) * packs + pack];
        return sum;
    }

   private:
    typedef std::array<int32_t, DIMENSIONS> Key;  // of a vertex: its coordinates; the last one follows from the others
    struct Corner {
        int32_t vertex;
        float weight;  // barycentric
    };
    struct Slot {
        int32_t vertex = 0;  // 0: free
        uint32_t tag = 0;  // of its key
    };
    struct Simplex {
        std::array<int32_t, CORNERS> origin, rank;  // its corner of remainder 0; the order of the coordinates around a point
        INLINE bool operator==(const Simplex& other) const { return origin == other.origin && rank == other.rank; }
    };

    std::vector<Corner> corners;  // (pixels, CORNERS)
    std::vector<std::array<int32_t, 2>> beside;  // (CORNERS, vertices): the neighbours along each axis
    std::vector<Key> keys;  // (vertices)
    std::vector<Slot> slots;  // hash table of vertices

    // The simplex around a position, and the weights of its corners there.
    static INLINE Simplex enclose(const float* position, Corner* corner) {
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
        for (int i = 0; i < CORNERS; i++) corner[i].weight = weights[i];
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

// The appearance kernel: what it makes of all pixels' probabilities is gathered once, and then read pixel by pixel.
template <int N>
class Appearance {
    typedef typename Of<N>::Floats Floats;

   public:
    INLINE Appearance(const uint8_t* image, Size size, int packs, float sxy, float srgb)
        : lattice(image, size, sxy, srgb), packs(packs), norm(size.pixels()), values(size_t(lattice.vertices) * packs),
          spare(size_t(lattice.vertices) * packs) {
        Buffer<float> ones(size.pixels()), sums(lattice.vertices), others(lattice.vertices);
        for (size_t pixel = 0; pixel < size.pixels(); pixel++) ones[pixel] = 1;
        lattice.gather(ones, ones, 1, sums, others);
        for (size_t pixel = 0; pixel < size.pixels(); pixel++) norm[pixel] = 1 / std::sqrt(lattice.at(pixel, sums, 1, 0));
    }
    INLINE void gather(const Buffer<Floats>& probs) { lattice.gather(probs, norm, packs, values, spare); }
    INLINE Floats at(size_t pixel, int pack) const { return norm[pixel] * lattice.at(pixel, values, packs, pack); }

   private:
    Lattice lattice;
    int packs;
    Buffer<float> norm;
    Buffer<Floats> values, spare;
};

// The smoothness kernel: separable, and so is its normalisation.
template <int N>
class Smoothness {
    typedef typename Of<N>::Floats Floats;

   public:
    INLINE Smoothness(Size size, int packs, float deviation)
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
    int packs, reach;
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

template <int N>
INLINE void infer(const float* unary, const uint8_t* image, float* marginals, Size size, const Settings& settings) {
    typedef typename Of<N>::Floats Floats;
    const int packs = (size.classes + N - 1) / N;
    const size_t pixels = size.pixels();
    Buffer<Floats> energy(pixels * packs), probs(pixels * packs), next(pixels * packs);
    Floats there;
    for (int i = 0; i < N; i++) there[i] = (packs - 1) * N + i < size.classes;
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        float* mine = reinterpret_cast<float*>(&energy[pixel * packs]);
        for (int c = 0; c < size.classes; c++) mine[c] = unary[c * pixels + pixel];
        for (int c = size.classes; c < packs * N; c++) mine[c] = NEVER;
        for (int pack = 0; pack < packs; pack++) probs[pixel * packs + pack] = energy[pixel * packs + pack];
        softmax<N>(&probs[pixel * packs], packs, there);
    }
    std::unique_ptr<Appearance<N>> appearance;
    std::unique_ptr<Smoothness<N>> smoothness;
    if (settings.iterations && settings.bilateral_compat)
        appearance.reset(new Appearance<N>(image, size, packs, settings.bilateral_sxy, settings.bilateral_srgb));
    if (settings.iterations && settings.gaussian_compat) smoothness.reset(new Smoothness<N>(size, packs, settings.gaussian_sxy));
    for (int iteration = 0; iteration < settings.iterations; iteration++) {
        if (appearance) appearance->gather(probs);
        for (int y = 0; y < size.height; y++) {
            if (smoothness) smoothness->gather(probs, y);
            for (int x = 0; x < size.width; x++) {
                const size_t pixel = size_t(y) * size.width + x;
                for (int pack = 0; pack < packs; pack++) {
                    Floats sum = energy[pixel * packs + pack];
                    if (smoothness) sum += settings.gaussian_compat * smoothness->at(x, pack);
                    if (appearance) sum += settings.bilateral_compat * appearance->at(pixel, pack);
                    next[pixel * packs + pack] = sum;
                }
                softmax<N>(&next[pixel * packs], packs, there);
            }
        }
        probs.swap(next);
    }
    for (size_t pixel = 0; pixel < pixels; pixel++) {
        const float* mine = reinterpret_cast<const float*>(&probs[pixel * packs]);
        for (int c = 0; c < size.classes; c++) marginals[c * pixels + pixel] = mine[c];
    }
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
            infer<4>(unary, image, marginals, size, settings);
        else if ((classes + 7) / 8 % 2)  // packs of 16 would be half empty
            infer<8>(unary, image, marginals, size, settings);
        else
            infer<16>(unary, image, marginals, size, settings);
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
