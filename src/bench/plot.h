// Plots of saved runs: median latencies against load, several runs in one plot.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace hearth {

Status write_file(const std::string& path, const std::string& text);

// Writes PREFIX-latency and PREFIX-token-latency, each as .svg and as .png. A file holds one run, as `bench serve`
// saves it, or several: {"LABEL": [loads], ...}, other keys aside. Drawn are those with one of `labels`, in that order;
// all if there are none. `best`: and a line of the best run at each load.
Status plot_runs(const std::vector<std::string>& files, const std::vector<std::string>& labels,
                 const std::string& prefix, bool best = false);

}  // namespace hearth
