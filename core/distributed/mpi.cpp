// SPDX-License-Identifier: Apache-2.0
#include "core/distributed/mpi.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#ifdef SEXTANT_MPI
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#endif

namespace sextant::distributed {

int processes_of_launcher() {
  // Open MPI, MPICH and its relatives (Slurm's PMI-2 too), MVAPICH.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"})
    if (const char* text = std::getenv(name)) return std::max(1, std::atoi(text));
  // Slurm's PMIx says only that there is a launcher.
  if (std::getenv("PMIX_RANK") != nullptr)
    if (const char* text = std::getenv("SLURM_NTASKS")) return std::max(1, std::atoi(text));
  return 1;
}

#ifdef SEXTANT_MPI
namespace {

constexpr int64_t kPiece = int64_t{1} << 28;  // MPI counts in int

MPI_Datatype type_of(DType dtype) {
  check(dtype == DType::kF32 || dtype == DType::kF64, "MPI: cannot add {}", name_of(dtype));
  return dtype == DType::kF32 ? MPI_FLOAT : MPI_DOUBLE;
}

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(MPI_Comm of) {
    MPI_Comm_dup(of, &comm_);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void sum(void* values, int64_t n, DType dtype, Device device) override {
    check_host(device);
    const MPI_Datatype type = type_of(dtype);
    for (int64_t at = 0; at < n; at += kPiece)
      MPI_Allreduce(MPI_IN_PLACE, static_cast<char*>(values) + at * size_of(dtype),
                    static_cast<int>(std::min(kPiece, n - at)), type, MPI_SUM, comm_);
  }

  void broadcast(void* bytes, int64_t n, Device device) override {
    check_host(device);
    for (int64_t at = 0; at < n; at += kPiece)
      MPI_Bcast(static_cast<char*>(bytes) + at, static_cast<int>(std::min(kPiece, n - at)),
                MPI_BYTE, 0, comm_);
  }

  std::vector<std::string> gather(const std::string& bytes) override {
    const auto count = static_cast<size_t>(size_);
    int64_t mine = std::ssize(bytes);
    std::vector<int64_t> sizes(count);
    MPI_Allgather(&mine, 1, MPI_INT64_T, sizes.data(), 1, MPI_INT64_T, comm_);
    int64_t total = 0;
    std::vector<int> lengths, begins;
    for (const int64_t n : sizes) {
      lengths.push_back(static_cast<int>(std::min(n, kPiece)));
      begins.push_back(static_cast<int>(std::min(total, kPiece)));
      total += n;
    }
    check(total < kPiece, "MPI: cannot gather {} bytes, {} at most", total, kPiece - 1);
    std::string all(static_cast<size_t>(total), '\0');
    MPI_Allgatherv(bytes.data(), static_cast<int>(mine), MPI_BYTE, all.data(), lengths.data(),
                   begins.data(), MPI_BYTE, comm_);
    std::vector<std::string> out;
    for (size_t r = 0; r < count; ++r)
      out.push_back(all.substr(static_cast<size_t>(begins[r]), static_cast<size_t>(lengths[r])));
    return out;
  }

  Communicator* second() override {
    int level = 0;
    MPI_Query_thread(&level);
    if (level < MPI_THREAD_MULTIPLE) return nullptr;
    if (!second_) second_ = std::make_unique<MpiCommunicator>(comm_);
    return second_.get();
  }

 private:
  static void check_host(Device device) {
    check(device == Device::kCpu, "MPI: the values are on {}, where several processes need NCCL",
          name_of(device));
  }

  MPI_Comm comm_ = MPI_COMM_NULL;  // as long as the program
  int rank_ = 0, size_ = 1;
  std::unique_ptr<MpiCommunicator> second_;
};

}  // namespace

std::unique_ptr<Communicator> join_mpi() {
  int level = 0;
  MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &level);
  auto all = std::make_unique<MpiCommunicator>(MPI_COMM_WORLD);
  check(
      all->size() == processes_of_launcher(),
      "MPI: the launcher has started {} processes, of which this one sees {}; use the launcher of "
      "the MPI that this program is built with",
      processes_of_launcher(), all->size());
  return all;
}

void leave_mpi() { MPI_Finalize(); }

#else

std::unique_ptr<Communicator> join_mpi() {
  fail(
      "started as one of {} processes, but this program is built without MPI; install "
      "libopenmpi-dev and build it again",
      processes_of_launcher());
}
void leave_mpi() {}

#endif

}  // namespace sextant::distributed
