// SPDX-License-Identifier: Apache-2.0
// Files written by torch.save: a zip of one pickle and the storages its tensors refer to.
// https://pytorch.org/docs/stable/notes/serialization.html, "Serialized file format for
// torch.save".
#pragma once

#include <filesystem>
#include <string>

#include "core/safetensors.h"
#include "models/import/pickle.h"
#include "models/import/zip.h"

namespace sextant {

// Reads untrusted files: nothing in them is executed, and every size is checked.
class TorchFile {
 public:
  // `path` is for messages; `names` are the global names to accept besides those of tensors. Throws
  // Error naming the file when it is not such a file, has the older format without a zip, was
  // written on a big-endian machine, or holds another name.
  TorchFile(std::vector<uint8_t> bytes, std::string path, PickleNames names);

  const Pickle& pickle() const { return pickle_; }
  const std::string& path() const { return path_; }

  // True for a tensor or a parameter.
  bool is_tensor(const PickleValue& v) const;
  // The values in row-major order, whatever the strides; bool as u8. `name` is for messages. Throws
  // Error for strides that are negative or let elements share memory, for a view outside its
  // storage, and when the tensors read so far take more than twice the size of the file.
  Tensor tensor(const PickleValue& v, const std::string& name);

 private:
  struct View;
  View view_of(const PickleValue& v, const std::string& name);

  std::string path_;
  ZipArchive zip_;
  std::string folder_;  // of the entries, with its slash
  Pickle pickle_;
  uint64_t budget_ = 0;  // bytes of tensors that may still be read
};

// Writes the tensors as a state dict (an OrderedDict of dense tensors) that torch.load reads, also
// with weights_only. Metadata is not written.
void save_torch_state_dict(const std::filesystem::path& path, const SafeTensors& file);

}  // namespace sextant
