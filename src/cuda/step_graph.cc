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

StepGraph::StepGraph(cudaStream_t stream, const std::function<void()>& record, const Events& events) {
  // Relaxed: the first attention of a bucket allocates its workspace.
  HEARTH_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
  record_in_graph(events.begin, stream);
  record();
  record_in_graph(events.end, stream);
  HEARTH_CUDA_CHECK(cudaStreamEndCapture(stream, &graph_));
  HEARTH_CUDA_CHECK(cudaGraphInstantiate(&replay_, graph_, 0));
  begin_ = node_that_records(events.begin, graph_);
  end_ = node_that_records(events.end, graph_);
}

StepGraph::~StepGraph() {
  cudaGraphExecDestroy(replay_);
  cudaGraphDestroy(graph_);
}

void StepGraph::launch(cudaStream_t stream, const Events& events) {
  HEARTH_CUDA_CHECK(cudaGraphExecEventRecordNodeSetEvent(replay_, begin_, events.begin));
  HEARTH_CUDA_CHECK(cudaGraphExecEventRecordNodeSetEvent(replay_, end_, events.end));
  HEARTH_CUDA_CHECK(cudaGraphLaunch(replay_, stream));
}

double seconds_between(cudaEvent_t from, cudaEvent_t to) {
  float milliseconds = 0;
  HEARTH_CUDA_CHECK(cudaEventElapsedTime(&milliseconds, from, to));
  return milliseconds * 1e-3;
}

}  // namespace hearth::cuda
