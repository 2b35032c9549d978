// SPDX-License-Identifier: Apache-2.0
// One training on several processes (threads stand in for them): whatever their number, the same
// losses, gradients and runs.
#include <mutex>

#include "apps/model_files/checkpoint.h"
#include "apps/training/repopt.h"
#include "apps/training/run.h"
#include "apps/training/tiny_run.h"
#include "apps/training/train_epoch.h"
#include "apps/training/train_step.h"
#include "apps/training/trainer.h"
#include "core/file.h"
#include "optim/gradient_sum.h"
#include "optim/sgd.h"
#include "support/same_tensors.h"
#include "support/thread_processes.h"

namespace {

using namespace sextant;
using namespace sextant::apps;
using test::error_of;

namespace fs = std::filesystem;

// The rows of a batch in another order: nothing but the order of sums changes.
data::Batch turned(const data::Batch& batch) {
  data::Batch out = batch;
  const int64_t n = batch.size(), bytes = batch.images.numel() / n;
  out.images = batch.images.clone();
  for (int64_t i = 0; i < n; ++i)
    std::memcpy(out.images.data<uint8_t>() + i * bytes,
                batch.images.data<uint8_t>() + (n - 1 - i) * bytes, static_cast<size_t>(bytes));
  out.targets = batch.targets.clone();
  for (int64_t i = 0; i < out.targets.dim(0); ++i) {
    float& image = out.targets.f32()[6 * i];
    image = static_cast<float>(n - 1) - image;
  }
  return out;
}

struct Steps {
  std::vector<double> losses;
  std::vector<Tensor> gradients;  // of the first step
  std::vector<Tensor> weights;    // and statistics, after the last
};

// `steps` steps of plain SGD on as many processes, as process 0 has them.
Steps take_steps(const TrainConfig& config, const RunData& data, int processes_wanted, int steps,
                 bool turn = false) {
  Steps out;
  const auto work = [&](Communicator* all) {
    const Yolov6Config model_config =
        read_yolov6_config(ConfigReader(config.model, "test", "model."), data.train.num_classes());
    const Yolov6 model(model_config, config.seed);
    const DetectionLoss loss(
        read_loss_config(ConfigReader(config.loss, "test", "loss."), model_config.loss()));
    std::vector<optim::NamedParameter> parameters;
    for (const auto& p : model.parameters())
      parameters.push_back(optim::named_parameter(p.name, p.variable));
    std::optional<optim::GradientSum> sum;
    if (all) sum.emplace(parameters, *all, 20000);
    optim::Sgd sgd(parameters, {});
    TrainStep step(model, loss, nullptr, nullptr, {.sync_bn = config.sync_bn});
    data::Loader loader(data.train, loader_config(config, Device::kCpu, 0));
    Steps mine;
    data::Batch batch;
    for (int64_t i = 0, epoch = 0; i < steps; ++i) {
      if (!loader.next(batch)) {
        loader.begin_epoch(epoch++);
        loader.next(batch);
      }
      if (turn) batch = turned(batch);
      double total =
          step.run(batch.images, batch.targets, 0, batch.whole, batch.counts).items().total();
      if (!batch.counts) total = 0;
      if (all) all->sum(&total, 1, DType::kF64, Device::kCpu);
      if (sum) sum->sum();
      mine.losses.push_back(total);
      if (i == 0)
        for (const auto& p : parameters)
          if (p.variable.grad().defined()) mine.gradients.push_back(p.variable.grad().clone());
      sgd.step({0.01, 0.01, 0.01}, 0.9);
      sgd.zero_grad();
    }
    for (const auto& s : model.state())
      if (s.tensor.dtype() == DType::kF32) mine.weights.push_back(s.tensor.clone());
    if (is_first_process()) out = mine;
  };
  if (processes_wanted == 1)
    work(nullptr);
  else
    test::on_processes(processes_wanted, [&](Communicator& all) { work(&all); });
  return out;
}

struct Distance {
  double loss = 0, gradient = 0, weight = 0;  // of the largest
};
double relative(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  double largest = 0, difference = 0;
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    difference = std::max(difference, test::max_difference(a[i], b[i]));
    for (const float v : a[i].span<float>()) largest = std::max(largest, std::abs(double{v}));
  }
  return difference / largest;
}
Distance distance(const Steps& a, const Steps& b) {
  Distance d;
  for (size_t i = 0; i < a.losses.size(); ++i)
    d.loss = std::max(d.loss, std::abs(a.losses[i] - b.losses[i]) / std::abs(a.losses[i]));
  d.gradient = relative(a.gradients, b.gradients);
  d.weight = relative(a.weights, b.weights);
  return d;
}

}  // namespace

TEST_CASE("the first step is the same on 1 to 4 processes") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  Json json = test::tiny_json(folder / "data");
  json["batch"] = 6;
  for (const Json& model :
       {Json::object(), Json{{"fuse_ab", true}}, Json{{"use_dfl", true}, {"reg_max", 16}}}) {
    INFO(json_text(model));
    json["model"] = {{"width_multiple", 0.05}, {"depth_multiple", 0.1}};
    json["model"].update(model);
    const TrainConfig config = parse_train_config(json, "test", "");
    const RunData data(config.data);
    const Steps one = take_steps(config, data, 1, 1);
    for (const int n : {2, 3, 4}) {
      INFO(n << " processes");
      const Distance d = distance(one, take_steps(config, data, n, 1));
      CHECK(d.loss < 1e-6);
      CHECK(d.gradient < 1e-4);
    }
  }
}

TEST_CASE("20 steps on 1 to 4 processes differ as by another order of sums") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  Json json = test::tiny_json(folder / "data");
  json["batch"] = 4;  // of 10 images: the last batch has 2, and the others of 3 or 4 processes none
  const TrainConfig config = parse_train_config(json, "test", "");
  const RunData data(config.data);
  const Steps one = take_steps(config, data, 1, 20);
  const Distance order = distance(one, take_steps(config, data, 1, 20, true));
  CHECK(order.weight > 0);
  for (const int n : {2, 3, 4}) {
    const Distance d = distance(one, take_steps(config, data, n, 20));
    INFO(n << " processes: loss " << d.loss << ", weights " << d.weight
           << "; another order: " << order.loss << ", " << order.weight);
    CHECK(d.loss < 4 * order.loss);
    CHECK(d.weight < 4 * order.weight);
  }
}

namespace {

// The largest difference of two files' tensors, of the largest value.
double files_differ(const fs::path& a, const fs::path& b) {
  std::vector<Tensor> x, y;
  const SafeTensors file_a = load_safetensors(a), file_b = load_safetensors(b);
  for (const auto& [name, t] : file_a.tensors)
    if (t.dtype() == DType::kF32) {
      x.push_back(t);
      y.push_back(file_b.at(name));
    }
  return relative(x, y);
}

RunResult on(int processes, const std::function<RunResult()>& f) {
  RunResult result;
  test::on_processes(processes, [&](Communicator&) {
    const RunResult r = f();
    if (is_first_process()) result = r;
  });
  return result;
}

}  // namespace

TEST_CASE("a run on several processes is the run of one, and resumes") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  TrainConfig config = test::tiny_config(folder / "data");
  config.multi_scale = 0.3;
  config.augment.mixup = 0.5;
  train(config, folder / "one", false);
  for (const int n : {2, 3}) {
    INFO(n << " processes");
    const fs::path whole = folder / std::to_string(n),
                   parts = folder / ("parts" + std::to_string(n));
    on(n, [&] { return train(config, whole, false); });
    CHECK(files_differ(folder / "one" / "last.safetensors", whole / "last.safetensors") < 1e-5);
    // On the same number of processes to the bit, on another as close as any.
    on(n, [&] { return train(config, parts, false, 1); });
    on(n, [&] { return train(config, parts, true); });
    test::check_same_tensors(whole / "last.safetensors", parts / "last.safetensors");
    CHECK(load_json(whole / "config.json") == load_json(folder / "one" / "config.json"));
  }
  const fs::path changed = folder / "changed";
  train(config, changed, false, 1);
  on(2, [&] { return train(config, changed, true, 1); });
  on(3, [&] { return train(config, changed, true); });
  CHECK(files_differ(folder / "one" / "last.safetensors", changed / "last.safetensors") < 1e-5);
}

TEST_CASE("a teacher, the official local statistics, and RepOptimizer on several processes") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data");
  Json json = test::tiny_json(folder / "data");
  json["epochs"] = 2;
  json["eval_interval"] = 1;
  json["model"]["use_dfl"] = true;
  json["model"]["reg_max"] = 8;
  train(parse_train_config(json, "test", ""), folder / "teacher", false);

  json["teacher"] = (folder / "teacher" / "last.safetensors").string();
  json["loss"]["distill_feat_weight"] = 1;
  const TrainConfig student = parse_train_config(json, "test", "");
  train(student, folder / "student1", false);
  on(3, [&] { return train(student, folder / "student3", false); });
  CHECK(files_differ(folder / "student1" / "last.safetensors",
                     folder / "student3" / "last.safetensors") < 1e-5);

  TrainConfig local = test::tiny_config(folder / "data");
  local.sync_bn = false;
  train(local, folder / "local1", false);
  on(2, [&] { return train(local, folder / "local2", false); });
  const double d =
      files_differ(folder / "local1" / "last.safetensors", folder / "local2" / "last.safetensors");
  CHECK(d > 1e-5);  // other statistics
  CHECK(d < 0.5);

  Json repopt = test::tiny_json(folder / "data");
  repopt["epochs"] = 2;
  repopt["training"] = {{"mode", "repopt"}, {"search", {{"epochs", 1}}}};
  const TrainConfig target = parse_train_config(repopt, "test", "");
  train_repopt(target, folder / "repopt1", {});
  on(2, [&] { return train_repopt(target, folder / "repopt2", {}); });
  CHECK(files_differ(folder / "repopt1" / "last.safetensors",
                     folder / "repopt2" / "last.safetensors") < 1e-5);
}

TEST_CASE("processes that disagree are told before the first step") {
  const test::TemporaryFolder folder;
  test::make_shapes(folder / "data", 10, 4);
  test::make_shapes(folder / "fewer", 9, 4);
  const TrainConfig config = test::tiny_config(folder / "data");
  const auto error = [&](const std::function<void(TrainConfig&)>& change) {
    std::vector<std::string> errors(3);
    test::on_processes(3, [&](Communicator& all) {
      TrainConfig mine = config;
      if (all.rank() == 2) change(mine);
      errors[static_cast<size_t>(all.rank())] =
          error_of([&] { train(mine, folder / "run", false); });
    });
    CHECK(errors[0] == errors[1]);
    CHECK(errors[0] == errors[2]);
    return errors[0];
  };
  CHECK(error([](TrainConfig& c) { c.solver.lr0 = 0.5; }) ==
        "process 2 has another config than process 0: 'solver.lr0' differs");
  const std::string data =
      error([&](TrainConfig& c) { c.data.path = (folder / "fewer").string(); });
  CHECK_THAT(data, test::Contains("process 2 differs from process 0 in its train"));
  CHECK(!fs::exists(folder / "run" / "config.json"));

  TrainConfig small = config;
  small.batch = 2;
  std::vector<std::string> errors(3);
  test::on_processes(3, [&](Communicator& all) {
    errors[static_cast<size_t>(all.rank())] =
        error_of([&] { train(small, folder / "run", false); });
  });
  CHECK(errors[0] == "test: 'batch' is 2, must be at least the number of processes, 3");
}
