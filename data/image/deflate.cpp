// SPDX-License-Identifier: Apache-2.0
#include "data/image/deflate.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <functional>

namespace sextant::data {
namespace {

constexpr int kShortestRun = 4, kLongestRun = 258;
constexpr int kLiteralSymbols = 286, kEndOfBlock = 256, kLongestCode = 15, kLongestMetaCode = 7;

// Appends bits, the lowest first. The room must suffice.
class BitWriter {
 public:
  explicit BitWriter(uint8_t* to) : to_(to) {}
  // At most 56 bits. Writes eight bytes, of which the next call overwrites those not full yet.
  void put(uint64_t bits, int count) {
    held_ |= bits << count_;
    count_ += count;
    std::memcpy(to_, &held_, sizeof(held_));
    to_ += count_ >> 3;
    held_ >>= count_ & 56;
    count_ &= 7;
  }
  // The end, after bits to fill the last byte.
  uint8_t* finish() { return to_ + (count_ > 0); }

 private:
  uint8_t* to_;
  uint64_t held_ = 0;
  int count_ = 0;
};
static_assert(std::endian::native == std::endian::little);

struct Code {
  uint16_t bits = 0;
  uint8_t length = 0;
};

// RFC 1951, 3.2.2: codes of one length count up. They are written from their highest bit on.
std::vector<Code> canonical_codes(const std::vector<uint8_t>& lengths) {
  std::vector<Code> codes(lengths.size());
  uint32_t next = 0;
  for (int length = 1; length <= kLongestCode; ++length, next <<= 1)
    for (size_t s = 0; s < lengths.size(); ++s) {
      if (lengths[s] != length) continue;
      uint32_t reversed = 0;
      for (int b = 0; b < length; ++b) reversed |= (next >> b & 1) << (length - 1 - b);
      codes[s] = {static_cast<uint16_t>(reversed), static_cast<uint8_t>(length)};
      ++next;
    }
  return codes;
}

// The symbol of a run's length, and what follows it. RFC 1951, 3.2.5.
struct RunSymbol {
  int symbol = 0, extra_bits = 0;
  uint32_t extra = 0;
};
RunSymbol run_symbol(int run) {
  if (run == kLongestRun) return {285, 0, 0};
  const int from_three = run - 3;
  if (from_three < 8) return {257 + from_three, 0, 0};
  const int bits = std::bit_width(static_cast<unsigned>(from_three)) - 3;
  return {257 + 4 * bits + (from_three >> bits), bits,
          static_cast<uint32_t>(from_three) & ((1u << bits) - 1)};
}

// Whether one of the first four bytes behind `p` begins a run of the byte before it.
bool run_is_near(const uint8_t* p) {
  uint64_t eight = 0;
  std::memcpy(&eight, p - 1, sizeof(eight));
  const uint64_t differ = eight ^ eight >> 8;  // byte i: i and i + 1 differ
  static_assert(kShortestRun == 4);
  const auto run_at = [&](int i) { return static_cast<uint32_t>(differ >> 8 * i) == 0; };
  return static_cast<int>(run_at(0)) + run_at(1) + run_at(2) + run_at(3) != 0;
}

// Calls literal(byte), literals(four bytes) and run(length, of the byte that was just given), which
// together give `bytes`.
template <class Literal, class Literals, class Run>
void split(std::span<const uint8_t> bytes, const Literal& literal, const Literals& literals,
           const Run& run) {
  const uint8_t* p = bytes.data();
  const uint8_t* const end = p + bytes.size();
  if (p == end) return;
  literal(*p++);
  while (end - p > kShortestRun + 4) {
    if (!run_is_near(p)) {
      literals(p);
      p += 4;
      continue;
    }
    const uint8_t* const stop = std::min(end, p + kLongestRun);
    const uint8_t* q = p;
    while (q < stop && *q == p[-1]) ++q;
    if (q - p < kShortestRun) {
      literal(*p++);
      continue;
    }
    run(static_cast<int>(q - p));
    p = q;
  }
  while (p < end) literal(*p++);
}

// RFC 1951, 3.2.7: the lengths of the codes, in a code of their own, without its repetitions.
void put_code_lengths(const std::vector<uint8_t>& literals, BitWriter& out) {
  constexpr std::array<uint8_t, 19> kOrder{16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                           11, 4,  12, 3, 13, 2, 14, 1, 15};
  std::vector<uint8_t> lengths = literals;
  lengths.push_back(1);  // the one distance, of the byte before
  std::array<uint32_t, kOrder.size()> counts{};
  for (const uint8_t l : lengths) ++counts[l];
  const std::vector<uint8_t> meta = huffman_lengths(counts, kLongestMetaCode);
  const std::vector<Code> codes = canonical_codes(meta);
  out.put(static_cast<uint32_t>(literals.size() - 257), 5);
  out.put(0, 5);
  out.put(static_cast<uint32_t>(kOrder.size() - 4), 4);
  for (const uint8_t s : kOrder) out.put(meta[s], 3);
  for (const uint8_t l : lengths) out.put(codes[l].bits, codes[l].length);
}

}  // namespace

std::vector<uint8_t> huffman_lengths(std::span<const uint32_t> counts, int longest) {
  std::vector<uint32_t> weights(counts.begin(), counts.end());
  // A code of one symbol is not complete.
  for (size_t s = 0; std::ranges::count(weights, 0u) > std::ssize(weights) - 2; ++s)
    weights[s] = std::max(weights[s], 1u);
  std::vector<size_t> leaves;
  for (size_t s = 0; s < weights.size(); ++s)
    if (weights[s] > 0) leaves.push_back(s);
  while (true) {
    std::ranges::stable_sort(leaves, {}, [&](size_t s) { return weights[s]; });
    // Nodes: the leaves by weight, then the inner ones, which are made by rising weight too. The two
    // lightest without a parent get one, until a single node is left.
    const size_t n = leaves.size();
    std::vector<uint64_t> weight;
    for (const size_t s : leaves) weight.push_back(weights[s]);
    std::vector<size_t> parent(2 * n - 1, 0);
    size_t leaf = 0, inner = n;
    const auto lightest = [&] {
      return inner == weight.size() || (leaf < n && weight[leaf] <= weight[inner]) ? leaf++
                                                                                   : inner++;
    };
    while (weight.size() < 2 * n - 1) {
      const size_t a = lightest(), b = lightest();
      parent[a] = parent[b] = weight.size();
      weight.push_back(weight[a] + weight[b]);
    }
    std::vector<int> depth(2 * n - 1, 0);
    for (size_t i = 2 * n - 2; i-- > 0;) depth[i] = depth[parent[i]] + 1;
    if (depth[0] <= longest) {  // the lightest is the deepest
      std::vector<uint8_t> lengths(weights.size(), 0);
      for (size_t i = 0; i < n; ++i) lengths[leaves[i]] = static_cast<uint8_t>(depth[i]);
      return lengths;
    }
    // Weights that differ less make a tree that is less deep.
    for (const size_t s : leaves) weights[s] = (weights[s] + 1) / 2;
  }
}

std::vector<uint8_t> zlib_stream(std::span<const uint8_t> bytes) {
  // Four counts in turn: one that is incremented twice in a row waits for itself.
  std::array<std::vector<uint32_t>, 4> parts;
  parts.fill(std::vector<uint32_t>(kLiteralSymbols, 0));
  split(
      bytes, [&](uint8_t b) { ++parts[0][b]; },
      [&](const uint8_t* b) {
        for (size_t i = 0; i < 4; ++i) ++parts[i][b[i]];
      },
      [&](int run) { ++parts[0][static_cast<size_t>(run_symbol(run).symbol)]; });
  std::vector<uint32_t> counts = parts[0];
  for (size_t i = 1; i < 4; ++i)
    std::ranges::transform(counts, parts[i], counts.begin(), std::plus{});
  ++counts[kEndOfBlock];
  const std::vector<uint8_t> lengths = huffman_lengths(counts, kLongestCode);
  const std::vector<Code> codes = canonical_codes(lengths);

  constexpr size_t kFrame = 1024;  // more than the headers, the lengths and the checksum take
  uint64_t bits = 0;
  for (size_t s = 0; s < counts.size(); ++s)
    bits += uint64_t{counts[s]} * (lengths[s] + (s > kEndOfBlock ? 6 : 0));
  std::vector<uint8_t> out(bits / 8 + kFrame);
  out[0] = 0x78;  // deflate with a window of 32 KiB
  out[1] = 0x01;
  BitWriter writer(out.data() + 2);
  writer.put(0b101, 3);  // the last block, with codes of its own
  put_code_lengths(lengths, writer);
  split(
      bytes, [&](uint8_t b) { writer.put(codes[b].bits, codes[b].length); },
      [&](const uint8_t* b) {
        for (size_t i = 0; i < 4; i += 2) {
          const Code first = codes[b[i]], second = codes[b[i + 1]];
          writer.put(first.bits | uint64_t{second.bits} << first.length,
                     first.length + second.length);
        }
      },
      [&](int run) {
        const RunSymbol s = run_symbol(run);
        const Code code = codes[static_cast<size_t>(s.symbol)];
        writer.put(code.bits | s.extra << code.length, code.length + s.extra_bits);
        writer.put(0, 1);  // the distance
      });
  writer.put(codes[kEndOfBlock].bits, codes[kEndOfBlock].length);
  uint8_t* at = writer.finish();
  const auto sum = static_cast<uint32_t>(adler32_z(1, bytes.data(), bytes.size()));
  for (int shift = 24; shift >= 0; shift -= 8) *at++ = static_cast<uint8_t>(sum >> shift);
  out.resize(static_cast<size_t>(at - out.data()));
  return out;
}

}  // namespace sextant::data
