"""/metrics through Prometheus' own parser."""
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from client_test import NAME, URL, ClientTest

# What vLLM 0.11 to 0.16 export under these names, without their suffixes.
VLLM = {
    "num_requests_running": "gauge", "num_requests_waiting": "gauge", "kv_cache_usage_perc": "gauge", "cache_config_info": "gauge",
    "prompt_tokens": "counter", "generation_tokens": "counter", "num_preemptions": "counter", "request_success": "counter",
    "prefix_cache_queries": "counter", "prefix_cache_hits": "counter",
    "time_to_first_token_seconds": "histogram", "inter_token_latency_seconds": "histogram", "time_per_output_token_seconds": "histogram",
    "request_time_per_output_token_seconds": "histogram", "e2e_request_latency_seconds": "histogram",
    "request_queue_time_seconds": "histogram", "request_prefill_time_seconds": "histogram", "request_decode_time_seconds": "histogram",
    "request_inference_time_seconds": "histogram", "request_prompt_tokens": "histogram", "request_generation_tokens": "histogram",
    "iteration_tokens_total": "histogram",
}


class Prometheus(ClientTest):
    def test_page(self):
        with urllib.request.urlopen(URL + "/metrics") as page:
            self.assertEqual(page.headers["Content-Type"], "text/plain; version=0.0.4; charset=utf-8")
            families = {f.name: f for f in text_string_to_metric_families(page.read().decode())}
        self.assertEqual({name[5:]: f.type for name, f in families.items() if name.startswith("vllm:")}, VLLM)
        ours = {name[7:] for name in families if name.startswith("hearth:")}
        self.assertLess(set(VLLM) - {"time_per_output_token_seconds"}, ours)
        self.assertEqual({name.split(":")[0] for name in families}, {"hearth", "vllm"})
        for name, family in families.items():
            self.assertTrue(family.documentation, name)
            for sample in family.samples:
                # hearth:server_* are sums over the replicas.
                engine = None if name.startswith("hearth:server_") else "0"
                self.assertEqual((sample.labels["model_name"], sample.labels.get("engine")), (NAME, engine))
            if family.type == "histogram":
                self.check_histogram(family)

    def check_histogram(self, family):
        buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual([v for _, v in buckets], sorted(v for _, v in buckets))
        self.assertEqual(buckets[-1][0], float("inf"))
        count = next(s.value for s in family.samples if s.name.endswith("_count"))
        self.assertEqual(buckets[-1][1], count)
