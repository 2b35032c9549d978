// SPDX-License-Identifier: Apache-2.0
#include "deploy/engine/data_steps.h"

#include <algorithm>

namespace sextant::deploy {
namespace {

int64_t bytes_of(const Place& p) { return p.channels * size_of(p.dtype); }
int64_t pitch_bytes(const Place& p) { return p.pitch * size_of(p.dtype); }

}  // namespace

std::unique_ptr<Step> make_input_step(const Backend& on, const Place& pixels, const Place& image,
                                      int64_t n, bool simulate) {
  return make_step("input", {pixels.storage, image.storage}, [=, &on](const Bases& bases) {
    if (image.dtype == DType::kF32 && !simulate)
      return on.bytes_to_float({pixels.as<uint8_t>(bases), image.as<float>(bases), n});
    on.convert_strided({.x = pixels.at(bases),
                        .y = image.at(bases),
                        .x_type = DType::kU8,
                        .y_type = image.dtype,
                        .rows = n / image.channels,
                        .channels = image.channels,
                        .x_pitch = pixels.pitch,
                        .y_pitch = image.pitch,
                        .x_scale = simulate ? 1.0f : 1.0f / 255.0f});
  });
}

std::unique_ptr<Step> make_copy_step(const Backend& on, const Place& source,
                                     const Place& destination, int64_t rows) {
  return make_step("copy", {source.storage, destination.storage}, [=, &on](const Bases& bases) {
    on.copy_strided({.source = source.at(bases),
                     .destination = destination.at(bases),
                     .rows = rows,
                     .bytes = bytes_of(source),
                     .source_pitch = pitch_bytes(source),
                     .destination_pitch = pitch_bytes(destination)});
  });
}

std::unique_ptr<Step> make_scatter_step(const Backend& on, const Place& source,
                                        const Place& destination, const Shape& shape,
                                        const DepthToSpaceAttributes& attributes) {
  return make_step("scatter", {source.storage, destination.storage}, [=, &on](const Bases& bases) {
    on.depth_to_space({.source = source.at(bases),
                       .destination = destination.at(bases),
                       .batch = shape[0],
                       .height = shape[1],
                       .width = shape[2],
                       .bytes = bytes_of(destination),
                       .destination_pitch = pitch_bytes(destination),
                       .scale = attributes.scale,
                       .crop_bottom = attributes.crop_bottom,
                       .crop_right = attributes.crop_right,
                       .scale_width = attributes.scale_width});
  });
}

std::unique_ptr<Step> make_upsample_step(const Backend& on, const Place& source,
                                         const Place& destination, const Shape& shape,
                                         int64_t scale) {
  return make_step("upsample", {source.storage, destination.storage}, [=, &on](const Bases& bases) {
    on.upsample_strided({.source = source.at(bases),
                         .destination = destination.at(bases),
                         .batch = shape[0],
                         .height = shape[1],
                         .width = shape[2],
                         .scale = scale,
                         .bytes = bytes_of(source),
                         .source_pitch = pitch_bytes(source),
                         .destination_pitch = pitch_bytes(destination)});
  });
}

std::unique_ptr<Step> make_max_pool_step(const Backend& on, const Place& source,
                                         const Place& destination, const Shape& shape,
                                         const Shape& out, const MaxPoolAttributes& attributes) {
  const kernels::MaxPoolStrided pool{.dtype = source.dtype,
                                     .batch = shape[0],
                                     .height = shape[1],
                                     .width = shape[2],
                                     .channels = shape[3],
                                     .out_height = out[1],
                                     .out_width = out[2],
                                     .kernel = attributes.kernel,
                                     .stride = attributes.stride,
                                     .padding = attributes.padding,
                                     .source_pitch = source.pitch,
                                     .destination_pitch = destination.pitch};
  return make_step("max_pool", {source.storage, destination.storage}, [=, &on](const Bases& bases) {
    kernels::MaxPoolStrided p = pool;
    p.source = source.at(bases);
    p.destination = destination.at(bases);
    on.max_pool_strided(p);
  });
}

std::unique_ptr<Step> make_average_pool_step(const Backend& on, const Place& source,
                                             const Place& destination, const Shape& shape,
                                             const Shape& out, const AveragePoolAttributes& a,
                                             bool simulate) {
  const kernels::AveragePoolStrided pool{.dtype = source.dtype,
                                         .batch = shape[0],
                                         .height = shape[1],
                                         .width = shape[2],
                                         .channels = shape[3],
                                         .out_height = out[1],
                                         .out_width = out[2],
                                         .kernel_height = a.kernel_height,
                                         .kernel_width = a.kernel_width,
                                         .stride = a.stride,
                                         .top = a.top,
                                         .left = a.left,
                                         .source_pitch = source.pitch,
                                         .destination_pitch = destination.pitch,
                                         .round = simulate};
  return make_step("avg_pool", {source.storage, destination.storage}, [=, &on](const Bases& bases) {
    kernels::AveragePoolStrided p = pool;
    p.source = source.at(bases);
    p.destination = destination.at(bases);
    on.average_pool_strided(p);
  });
}

std::unique_ptr<Step> make_global_avg_pool_step(const Backend& on, const Place& source,
                                                const Meaning& from, const Place& destination,
                                                const Meaning& to, const Shape& shape) {
  kernels::GlobalAverageStrided average{.x_type = source.dtype,
                                        .y_type = destination.dtype,
                                        .batch = shape[0],
                                        .pixels = shape[1] * shape[2],
                                        .channels = shape[3],
                                        .x_pitch = source.pitch,
                                        .y_pitch = destination.pitch};
  if (to.quantized) {
    average.factor = static_cast<float>(static_cast<double>(from.scale) /
                                        (static_cast<double>(average.pixels) * to.scale));
    average.round = true;
    average.low = to.low();
    average.high = to.high();
  }
  return make_step("global_avg_pool", {source.storage, destination.storage},
                   [=, &on](const Bases& bases) {
                     kernels::GlobalAverageStrided p = average;
                     p.x = source.at(bases);
                     p.y = destination.at(bases);
                     on.global_average_strided(p);
                   });
}

std::unique_ptr<Step> make_softmax_step(const Backend& on, const Place& source,
                                        const Place& destination, int64_t rows) {
  return make_step("softmax", {source.storage, destination.storage}, [=, &on](const Bases& bases) {
    on.softmax_strided({.x = source.at(bases),
                        .y = destination.at(bases),
                        .dtype = source.dtype,
                        .rows = rows,
                        .channels = source.channels,
                        .x_pitch = source.pitch,
                        .y_pitch = destination.pitch});
  });
}

std::unique_ptr<Step> make_add_step(const Backend& on, const Place& a, const Place& b,
                                    const Place& y, int64_t rows, const Meaning& meaning,
                                    float factor) {
  return make_step("add", {a.storage, b.storage, y.storage}, [=, &on](const Bases& bases) {
    on.add_strided({.a = a.at(bases),
                    .b = b.at(bases),
                    .y = y.at(bases),
                    .dtype = y.dtype,
                    .rows = rows,
                    .channels = y.channels,
                    .a_pitch = a.pitch,
                    .b_pitch = b.pitch,
                    .y_pitch = y.pitch,
                    .low = meaning.quantized ? meaning.low() : 0.0f,
                    .high = meaning.quantized ? meaning.high() : 0.0f,
                    .factor = factor});
  });
}

std::unique_ptr<Step> make_multiply_step(const Backend& on, const Place& a, const Meaning& a_means,
                                         const Place& b, const Meaning& b_means, const Place& y,
                                         const Meaning& y_means, int64_t batch, int64_t pixels,
                                         bool b_per_image) {
  kernels::MultiplyStrided product{.a_type = a.dtype,
                                   .b_type = b.dtype,
                                   .y_type = y.dtype,
                                   .batch = batch,
                                   .pixels = pixels,
                                   .channels = y.channels,
                                   .b_per_image = b_per_image,
                                   .a_pitch = a.pitch,
                                   .b_pitch = b.pitch,
                                   .y_pitch = y.pitch};
  if (y_means.quantized) {
    product.factor = a_means.scale * b_means.scale / y_means.scale;
    product.round = true;
    product.low = y_means.low();
    product.high = y_means.high();
  }
  return make_step("multiply", {a.storage, b.storage, y.storage}, [=, &on](const Bases& bases) {
    kernels::MultiplyStrided p = product;
    p.a = a.at(bases);
    p.b = b.at(bases);
    p.y = y.at(bases);
    on.multiply_strided(p);
  });
}

std::unique_ptr<Step> make_gather_step(const Backend& on, const Place& source,
                                       const Place& destination, int64_t rows,
                                       const std::vector<int64_t>& channels) {
  const std::vector<int32_t> numbers(channels.begin(), channels.end());
  const Tensor list = Tensor::from<int32_t>({std::ssize(numbers)}, numbers).to(on.device());
  return make_step("gather", {source.storage, destination.storage}, [=, &on](const Bases& bases) {
    on.gather_channels({.source = source.at(bases),
                        .destination = destination.at(bases),
                        .channels = list.data<int32_t>(),
                        .rows = rows,
                        .count = list.numel(),
                        .bytes = size_of(source.dtype),
                        .source_pitch = source.pitch,
                        .destination_pitch = destination.pitch});
  });
}

std::unique_ptr<Step> make_map_step(const Backend& on, const Place& source, const Meaning& from,
                                    const Place& destination, const Meaning& to, int64_t rows,
                                    Activation activation) {
  kernels::ConvertStrided map{.x_type = source.dtype,
                              .y_type = destination.dtype,
                              .rows = rows,
                              .channels = source.channels,
                              .x_pitch = source.pitch,
                              .y_pitch = destination.pitch,
                              .x_scale = from.quantized ? from.scale : 1.0f,
                              .activation = activation,
                              .round = to.quantized,
                              .y_scale = to.scale,
                              .low = to.low(),
                              .high = to.high()};
  Tensor table;
  if (size_of(source.dtype) == 1 && size_of(destination.dtype) == 1) {
    const auto bytes = kernels::convert_table(map);
    table = Tensor::from<uint8_t>({256}, bytes).to(on.device());
    map.table = table.data<uint8_t>();
  }
  const char* kind = activation == Activation::kIdentity ? "convert" : "activation";
  return make_step(kind, {source.storage, destination.storage},
                   [=, &on](const Bases& bases) {  // holds `table`
                     kernels::ConvertStrided p = map;
                     p.x = source.at(bases);
                     p.y = destination.at(bases);
                     if (table.defined()) p.table = table.data<uint8_t>();
                     on.convert_strided(p);
                   });
}

std::unique_ptr<Step> make_decode_step(const Backend& on, const std::vector<Place>& sources,
                                       const std::vector<Shape>& shapes, const Place& destination,
                                       const DecodeAttributes& attributes) {
  std::vector<int> touched{destination.storage};
  for (const Place& p : sources) touched.push_back(p.storage);
  kernels::HeadMaps head;
  head.levels = static_cast<int>(attributes.strides.size());
  head.batch = shapes[0][0];
  head.classes = attributes.num_classes;
  head.reg_max = attributes.reg_max;
  head.cell_offset = attributes.grid_cell_offset;
  head.dtype = sources[0].dtype;
  const size_t maps = attributes.maps_per_level();
  for (size_t l = 0; l < attributes.strides.size(); ++l) {
    head.level[l].height = shapes[maps * l][1];
    head.level[l].width = shapes[maps * l][2];
    head.level[l].stride = static_cast<float>(attributes.strides[l]);
    head.level[l].cls_pitch = sources[maps * l].pitch;
    head.level[l].reg_pitch = sources[maps * l + 1].pitch;
    if (maps == 3) head.level[l].obj_pitch = sources[maps * l + 2].pitch;
  }
  return make_step("decode", touched, [=, &on](const Bases& bases) {
    kernels::HeadMaps p = head;
    for (size_t l = 0; l < sources.size() / maps; ++l) {
      p.level[l].cls = sources[maps * l].at(bases);
      p.level[l].reg = sources[maps * l + 1].at(bases);
      if (maps == 3) p.level[l].obj = sources[maps * l + 2].at(bases);
    }
    on.decode({p, destination.as<float>(bases)});
  });
}

}  // namespace sextant::deploy
