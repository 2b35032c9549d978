// SPDX-License-Identifier: Apache-2.0
#include "models/import/torch_file.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "core/file.h"
#include "core/text.h"

namespace sextant {
namespace {

using Kind = PickleValue::Kind;

struct StorageType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<StorageType, 9> kStorageTypes{{
    {"torch.FloatStorage", DType::kF32},
    {"torch.HalfStorage", DType::kF16},
    {"torch.BFloat16Storage", DType::kBF16},
    {"torch.DoubleStorage", DType::kF64},
    {"torch.LongStorage", DType::kI64},
    {"torch.IntStorage", DType::kI32},
    {"torch.CharStorage", DType::kI8},
    {"torch.ByteStorage", DType::kU8},
    {"torch.BoolStorage", DType::kU8},
}};

constexpr const char* kTensor = "torch._utils._rebuild_tensor_v2";
constexpr const char* kParameter = "torch._utils._rebuild_parameter";

PickleNames with_torch(PickleNames names) {
  names.names.insert(names.names.end(), {"collections.OrderedDict", kTensor, kParameter});
  for (const auto& t : kStorageTypes) names.names.emplace_back(t.name);
  return names;
}

std::vector<uint8_t> not_legacy(std::vector<uint8_t> bytes, const std::string& path) {
  // The older format begins with a pickle of the number 0x1950a86a20f9469cfc6c.
  constexpr std::array<uint8_t, 14> kLegacy{0x80, 2,    0x8a, 10,   0x6c, 0xfc, 0x9c,
                                            0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
  check(bytes.size() < kLegacy.size() || !std::equal(kLegacy.begin(), kLegacy.end(), &bytes[0]),
        "{}: is in the format of torch.save before PyTorch 1.6; load it there and save it again "
        "with a newer one",
        path);
  return bytes;
}

}  // namespace

struct TorchFile::View {
  const StorageType* type = nullptr;
  std::span<const uint8_t> storage;
  int64_t offset = 0;  // in elements, as the strides
  Shape shape;
  std::vector<int64_t> strides;
};

TorchFile::TorchFile(std::vector<uint8_t> bytes, std::string path, PickleNames names)
    : path_(std::move(path)), zip_(not_legacy(std::move(bytes), path_), path_) {
  constexpr std::string_view kPickle = "/data.pkl";
  std::string pickle;
  for (const auto& [name, entry] : zip_.entries()) {
    if (!name.ends_with(kPickle)) continue;
    check(pickle.empty(), "{}: holds two pickles, '{}' and '{}'", path_, excerpt(pickle),
          excerpt(name));
    pickle = name;
  }
  check(!pickle.empty(), "{}: is a zip file, but not one written by torch.save (no data.pkl)",
        path_);
  folder_ = pickle.substr(0, pickle.size() - kPickle.size() + 1);
  if (zip_.entries().contains(folder_ + "byteorder")) {
    const auto order = zip_.read(folder_ + "byteorder");
    check(std::ranges::equal(order, std::string_view("little")),
          "{}: was not written on a little-endian machine", path_);
  }
  pickle_ = parse_pickle(zip_.read(pickle), path_, with_torch(std::move(names)));
  budget_ = 2 * zip_.file_size();
}

bool TorchFile::is_tensor(const PickleValue& v) const {
  return pickle_.is_call(v, kTensor) || pickle_.is_call(v, kParameter);
}

TorchFile::View TorchFile::view_of(const PickleValue& v, const std::string& name) {
  const auto require = [&](bool condition, const char* what) {
    check(condition, "{}: tensor '{}': {}", path_, name, what);
  };
  const PickleValue* tensor = &v;
  if (pickle_.is_call(v, kParameter)) {  // of a tensor, requires_grad, hooks
    const auto& a = pickle_[v.arguments].items;
    require(!a.empty(), "is a parameter without a tensor");
    tensor = &pickle_[a[0]];
  }
  require(pickle_.is_call(*tensor, kTensor), "is not a dense tensor");
  // storage, offset, size, stride, requires_grad, hooks
  const auto& a = pickle_[tensor->arguments].items;
  require(a.size() >= 4, "lacks storage, offset, size or stride");
  const PickleValue &persistent = pickle_[a[0]], &offset = pickle_[a[1]], &size = pickle_[a[2]],
                    &stride = pickle_[a[3]];
  require(persistent.kind == Kind::kPersistent && offset.kind == Kind::kInt &&
              size.kind == Kind::kTuple && stride.kind == Kind::kTuple,
          "has storage, offset, size or stride of a wrong type");

  // "storage", type, key, device, number of elements
  const PickleValue& id = pickle_[persistent.arguments];
  require(id.kind == Kind::kTuple && id.items.size() == 5 &&
              pickle_[id.items[0]].text == "storage" &&
              pickle_[id.items[1]].kind == Kind::kGlobal &&
              pickle_[id.items[2]].kind == Kind::kString && pickle_[id.items[4]].kind == Kind::kInt,
          "refers to no storage");
  View view;
  const auto type = std::ranges::find(kStorageTypes, pickle_[id.items[1]].text, &StorageType::name);
  require(type != kStorageTypes.end(), "has a storage of an unknown type");
  view.type = &*type;
  view.storage = zip_.read(folder_ + "data/" + pickle_[id.items[2]].text);
  const auto element = static_cast<uint64_t>(size_of(view.type->dtype));
  const int64_t count = pickle_[id.items[4]].integer;
  require(count >= 0 && static_cast<uint64_t>(count) == view.storage.size() / element &&
              view.storage.size() % element == 0,
          "the size of its storage does not match the data");

  const size_t rank = size.items.size();
  require(stride.items.size() == rank && rank <= Shape::kMaxRank,
          "has more than six dimensions, or not one stride for each");
  std::vector<int64_t> dims;
  int64_t last = offset.integer, elements = 1;
  bool overflow = last < 0;
  for (size_t i = 0; i < rank; ++i) {
    const PickleValue &d = pickle_[size.items[i]], &s = pickle_[stride.items[i]];
    require(d.kind == Kind::kInt && s.kind == Kind::kInt && d.integer >= 0 && s.integer >= 0,
            "has a size or stride that is not a number, or negative");
    dims.push_back(d.integer);
    view.strides.push_back(s.integer);
    int64_t reach = 0;
    overflow |= __builtin_mul_overflow(elements, d.integer, &elements);
    overflow |= __builtin_mul_overflow(std::max<int64_t>(d.integer - 1, 0), s.integer, &reach) ||
                __builtin_add_overflow(last, reach, &last);
  }
  require(!overflow && (elements == 0 || last < count), "lies outside its storage");
  require(elements <= count, "its elements share memory");
  view.offset = offset.integer;
  view.shape = Shape(std::span<const int64_t>(dims));
  return view;
}

namespace {

// Gathers elements of `size` bytes in row-major order.
void gather(const Shape& shape, const std::vector<int64_t>& strides, const uint8_t* from,
            int64_t size, uint8_t* to) {
  const int64_t n = shape.numel();
  const int rank = shape.rank();
  const int64_t inner = rank ? shape[-1] : 1, step = rank ? strides.back() : 1;
  std::array<int64_t, Shape::kMaxRank> index{};
  for (int64_t i = 0; i < n; i += inner) {
    int64_t at = 0;
    for (int d = 0; d + 1 < rank; ++d) at += index[d] * strides[d];
    if (step == 1 || inner == 1)
      std::memcpy(to + i * size, from + at * size, static_cast<size_t>(inner * size));
    else
      for (int64_t k = 0; k < inner; ++k)
        std::memcpy(to + (i + k) * size, from + (at + k * step) * size, static_cast<size_t>(size));
    for (int d = rank - 2; d >= 0 && ++index[d] == shape[d]; --d) index[d] = 0;
  }
}

}  // namespace

Tensor TorchFile::tensor(const PickleValue& v, const std::string& name) {
  const View view = view_of(v, name);
  const int64_t size = size_of(view.type->dtype);
  const auto bytes = static_cast<uint64_t>(view.shape.numel() * size);
  check(bytes <= budget_,
        "{}: tensor '{}': with it, the tensors take more than twice the size of the file", path_,
        name);
  budget_ -= bytes;
  const Tensor out(view.shape, view.type->dtype);
  gather(view.shape, view.strides, view.storage.data() + view.offset * size, size,
         static_cast<uint8_t*>(out.raw()));
  return out;
}

namespace {

// Writes protocol 2.
class PickleWriter {
 public:
  PickleWriter& raw(std::string_view bytes) {
    out_ += bytes;
    return *this;
  }
  PickleWriter& global(std::string_view module, std::string_view name) {
    return raw("c").raw(module).raw("\n").raw(name).raw("\n");
  }
  PickleWriter& text(std::string_view t) { return raw("X").little_endian(t.size(), 4).raw(t); }
  PickleWriter& integer(int64_t v) {
    if (v >= 0 && v <= std::numeric_limits<int32_t>::max())
      return raw("J").little_endian(static_cast<uint64_t>(v), 4);
    return raw("\x8a\x08").little_endian(static_cast<uint64_t>(v), 8);
  }
  PickleWriter& integers(std::span<const int64_t> values) {
    raw("(");
    for (const int64_t v : values) integer(v);
    return raw("t");
  }
  PickleWriter& ordered_dict() { return global("collections", "OrderedDict").raw(")R"); }
  std::span<const uint8_t> bytes() const {
    return {reinterpret_cast<const uint8_t*>(out_.data()), out_.size()};
  }

 private:
  PickleWriter& little_endian(uint64_t v, int size) {
    for (int i = 0; i < size; ++i) out_ += static_cast<char>(v >> (8 * i));
    return *this;
  }
  std::string out_;
};

}  // namespace

void save_torch_state_dict(const std::filesystem::path& path, const SafeTensors& file) {
  constexpr std::string_view kFolder = "archive/", kVersion = "3\n", kOrder = "little";
  const auto raw = [](std::string_view t) {
    return std::span(reinterpret_cast<const uint8_t*>(t.data()), t.size());
  };
  PickleWriter p;
  p.raw("\x80\x02").ordered_dict().raw("(");
  std::vector<ZipItem> items(1);  // the pickle comes first
  for (const auto& [name, t] : file.tensors) {
    const auto type = std::ranges::find(kStorageTypes, t.dtype(), &StorageType::dtype);
    check(type != kStorageTypes.end(), "{}: tensor '{}': PyTorch has no type for {}", path.string(),
          name, name_of(t.dtype()));
    const std::string key = std::to_string(items.size() - 1);
    std::vector<int64_t> strides(static_cast<size_t>(t.shape().rank()), 1);
    for (size_t i = strides.size(); i-- > 1;)
      strides[i - 1] = strides[i] * std::max<int64_t>(t.dim(static_cast<int>(i)), 1);
    p.text(name).global("torch._utils", "_rebuild_tensor_v2").raw("(");
    p.raw("(").text("storage").global("torch", type->name.substr(sizeof("torch.") - 1));
    p.text(key).text("cpu").integer(t.numel()).raw("tQ");
    p.integer(0).integers(t.shape().dims()).integers(strides).raw("\x89").ordered_dict().raw("tR");
    items.push_back({std::string(kFolder) + "data/" + key,
                     {static_cast<const uint8_t*>(t.raw()), static_cast<size_t>(t.bytes())}});
  }
  p.raw("u.");
  items[0] = {std::string(kFolder) + "data.pkl", p.bytes()};
  items.push_back({std::string(kFolder) + "byteorder", raw(kOrder)});
  items.push_back({std::string(kFolder) + "version", raw(kVersion)});
  const std::vector<uint8_t> bytes = make_zip(items);
  const std::array<std::span<const std::byte>, 1> parts{std::as_bytes(std::span(bytes))};
  write_atomically(path, parts);
}

}  // namespace sextant
