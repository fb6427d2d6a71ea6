"""The benchmark's inputs as real ROOT writes them; runs where only PyPI's ``root`` is installed.

    /path/to/root-python generate.py paper FOLDER --files 10 --events 100000 --format TTree

A file is written under another name and renamed when it is whole; one that exists is kept. Files of
one shape have the same events in every format and compression. ``event_id`` numbers the events of
all files, from 0: as float32 it is exact below 2**24, so that a delivered row can be found again.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

# paper shape: branches are g<group>_<member>; all of a group have the same length in an event
FLAT, GROUPS, PER_GROUP, MEAN = 22, 4, 13, 5.0
# NanoAOD-like: 20 collections of 45 members with a count leaf each, and 80 flat branches
COLLECTIONS, MEMBERS, NANO_FLAT, NANO_MEAN = 20, 45, 80, 2.0
SHAPES = ("paper", "nano")
FORMATS = ("TTree", "RNTuple")
COMPRESSIONS = {"ZSTD": (5, 5), "LZ4": (4, 4), "ZLIB": (1, 1), "LZMA": (2, 7)}  # algorithm, level

_CODE = """
#include <ROOT/RNTupleModel.hxx>
#include <ROOT/RNTupleWriteOptions.hxx>
#include <ROOT/RNTupleWriter.hxx>
#include <TFile.h>
#include <TRandom3.h>
#include <TTree.h>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

struct Paper {
  std::vector<float> flat;
  std::vector<std::vector<float>> jagged;
  int groups, members;
  double mean;
  Paper(int flats, int groups, int members, double mean)
      : flat(flats), jagged(groups * members), groups(groups), members(members), mean(mean) {}
  void fill(TRandom3 &random, float id) {
    flat[0] = id;
    for (size_t i = 1; i < flat.size(); i++) flat[i] = random.Gaus();
    for (int g = 0; g < groups; g++) {
      const int count = random.Poisson(mean);
      for (int m = 0; m < members; m++) {
        auto &values = jagged[g * members + m];
        values.resize(count);
        for (auto &value : values) value = random.Exp(1);
      }
    }
  }
  std::string flatName(size_t i) { return i ? "flat" + std::to_string(i) : "event_id"; }
  std::string jaggedName(size_t i) {
    return "g" + std::to_string(i / members) + "_" + std::to_string(i % members);
  }
};

void paper_tree(const char *path, int compression, Long64_t events, int number, int flats,
                int groups, int members, double mean) {
  TFile file(path, "RECREATE", "", compression);
  auto tree = new TTree("Events", "Events");
  Paper paper(flats, groups, members, mean);
  for (size_t i = 0; i < paper.flat.size(); i++)
    tree->Branch(paper.flatName(i).c_str(), &paper.flat[i]);
  for (size_t i = 0; i < paper.jagged.size(); i++)
    tree->Branch(paper.jaggedName(i).c_str(), &paper.jagged[i]);
  TRandom3 random(number + 1);
  for (Long64_t entry = 0; entry < events; entry++) {
    paper.fill(random, number * events + entry);
    tree->Fill();
  }
  file.Write();
}

void paper_ntuple(const char *path, int compression, Long64_t events, int number, int flats,
                  int groups, int members, double mean) {
  auto model = ROOT::RNTupleModel::CreateBare();
  Paper paper(flats, groups, members, mean);
  for (size_t i = 0; i < paper.flat.size(); i++)
    model->AddField(std::make_unique<ROOT::RField<float>>(paper.flatName(i)));
  for (size_t i = 0; i < paper.jagged.size(); i++)
    model->AddField(std::make_unique<ROOT::RField<std::vector<float>>>(paper.jaggedName(i)));
  ROOT::RNTupleWriteOptions options;
  options.SetCompression(compression);
  auto writer = ROOT::RNTupleWriter::Recreate(std::move(model), "Events", path, options);
  auto row = writer->CreateEntry();
  for (size_t i = 0; i < paper.flat.size(); i++)
    row->BindRawPtr(paper.flatName(i), &paper.flat[i]);
  for (size_t i = 0; i < paper.jagged.size(); i++)
    row->BindRawPtr(paper.jaggedName(i), &paper.jagged[i]);
  TRandom3 random(number + 1);
  for (Long64_t entry = 0; entry < events; entry++) {
    paper.fill(random, number * events + entry);
    writer->Fill(*row);
  }
}

// NanoAOD keeps about 10 bits of a float's mantissa
float rounded(double value) {
  float result = value;
  unsigned bits;
  std::memcpy(&bits, &result, 4);
  bits &= 0xFFFFE000u;
  std::memcpy(&result, &bits, 4);
  return result;
}

void nano_tree(const char *path, int compression, Long64_t events, int number, int flats,
               int collections, int members, double mean) {
  const int most = 64;
  TFile file(path, "RECREATE", "", compression);
  auto tree = new TTree("Events", "Events");
  std::vector<float> flat(flats);
  std::vector<int> counts(collections);
  std::vector<std::vector<float>> values(collections * members, std::vector<float>(most));
  for (int i = 0; i < flats; i++) {
    const std::string name = i ? "flat" + std::to_string(i) : "event_id";
    tree->Branch(name.c_str(), &flat[i], (name + "/F").c_str());
  }
  for (int c = 0; c < collections; c++) {
    const std::string collection = "c" + std::to_string(c), counter = "n" + collection;
    tree->Branch(counter.c_str(), &counts[c], (counter + "/I").c_str());
    for (int m = 0; m < members; m++) {
      const std::string name = collection + "_" + std::to_string(m);
      tree->Branch(name.c_str(), values[c * members + m].data(),
                   (name + "[" + counter + "]/F").c_str());
    }
  }
  TRandom3 random(number + 1);
  for (Long64_t entry = 0; entry < events; entry++) {
    flat[0] = number * events + entry;
    for (int i = 1; i < flats; i++) flat[i] = rounded(random.Gaus());
    for (int c = 0; c < collections; c++) {
      counts[c] = std::min<int>(random.Poisson(mean), most);
      for (int m = 0; m < members; m++)
        for (int i = 0; i < counts[c]; i++)
          values[c * members + m][i] = rounded(random.Exp(1));
    }
    tree->Fill();
  }
  file.Write();
}
"""


def main() -> None:
    """Write the files that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--events", type=int, default=100_000, help="in a file")
    parser.add_argument("--format", choices=FORMATS, default="TTree")
    parser.add_argument("--compression", choices=COMPRESSIONS, default="ZSTD")
    options = parser.parse_args()
    if options.shape == "nano" and options.format != "TTree":
        parser.error("count leaves are a matter of TTrees")
    if options.files * options.events > 2**24:
        parser.error("event_id would not be exact as float32: at most 2**24 events in all")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package says at each import that it is young
        import ROOT
    ROOT.gROOT.SetBatch(True)
    ROOT.gInterpreter.Declare(_CODE)
    algorithm, level = COMPRESSIONS[options.compression]
    if options.shape == "nano":
        write, numbers = ROOT.nano_tree, (NANO_FLAT, COLLECTIONS, MEMBERS, NANO_MEAN)
    else:
        write = ROOT.paper_ntuple if options.format == "RNTuple" else ROOT.paper_tree
        numbers = (FLAT, GROUPS, PER_GROUP, MEAN)
    options.folder.mkdir(parents=True, exist_ok=True)
    for number in range(options.files):
        path = options.folder / f"{options.shape}{number}.root"
        if path.exists():
            continue
        start = time.monotonic()
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            write(str(part), 100 * algorithm + level, options.events, number, *numbers)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        size, seconds = path.stat().st_size, time.monotonic() - start
        print(f"{path.name}: {size / 1e6:.0f} MB in {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
