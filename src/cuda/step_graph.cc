// Events as the first and the last node of a graph: on the stream beside it, the first would count the launch as well.
#include "cuda/step_graph.h"

#include <algorithm>
#include <vector>

#include "cuda/check.h"

namespace hearth::cuda {
namespace {

// External: the event can be read outside the graph.
void record_in_graph(cudaEvent_t event, cudaStream_t stream) {
  HEARTH_CUDA_CHECK(cudaEventRecordWithFlags(event, stream, cudaEventRecordExternal));
}

cudaGraphNode_t node_that_records(cudaEvent_t wanted, cudaGraph_t graph) {
  size_t count = 0;
  HEARTH_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &count));
  std::vector<cudaGraphNode_t> nodes(count);
  HEARTH_CUDA_CHECK(cudaGraphGetNodes(graph, nodes.data(), &count));
  const auto node = std::ranges::find_if(nodes, [&](cudaGraphNode_t n) {
    cudaGraphNodeType type;
    cudaEvent_t event = nullptr;
    HEARTH_CUDA_CHECK(cudaGraphNodeGetType(n, &type));
    if (type == cudaGraphNodeTypeEventRecord) HEARTH_CUDA_CHECK(cudaGraphEventRecordNodeGetEvent(n, &event));
    return event == wanted;
  });
  HEARTH_CHECK(node != nodes.end());
  return *node;
}

}  // namespace

Result<std::unique_ptr<StepGraph>> StepGraph::capture(cudaStream_t stream, const std::function<void()>& record,
                                                      const Events& events) {
  std::unique_ptr<StepGraph> out(new StepGraph);
  // Relaxed: other threads may allocate meanwhile.
  HEARTH_TRY(cuda_status(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capturing a step"));
  record_in_graph(events.begin, stream);
  record();
  record_in_graph(events.end, stream);
  HEARTH_TRY(cuda_status(cudaStreamEndCapture(stream, &out->graph_), "capturing a step"));
  HEARTH_TRY(cuda_status(cudaGraphInstantiate(&out->replay_, out->graph_, 0), "instantiating a step's graph"));
  out->begin_ = node_that_records(events.begin, out->graph_);
  out->end_ = node_that_records(events.end, out->graph_);
  return out;
}

StepGraph::~StepGraph() {
  if (replay_) cudaGraphExecDestroy(replay_);
  if (graph_) cudaGraphDestroy(graph_);
}

Status StepGraph::launch(cudaStream_t stream, const Events& events) {
  HEARTH_TRY(cuda_status(cudaGraphExecEventRecordNodeSetEvent(replay_, begin_, events.begin), "timing a step"));
  HEARTH_TRY(cuda_status(cudaGraphExecEventRecordNodeSetEvent(replay_, end_, events.end), "timing a step"));
  return cuda_status(cudaGraphLaunch(replay_, stream), "launching a step");
}

Result<double> seconds_between(cudaEvent_t from, cudaEvent_t to) {
  float milliseconds = 0;
  HEARTH_TRY(cuda_status(cudaEventElapsedTime(&milliseconds, from, to), "timing a step"));
  return milliseconds * 1e-3;
}

}  // namespace hearth::cuda
