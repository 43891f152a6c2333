"""The tasks that lm-eval runs in the tests: local files, so that nothing is fetched."""
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
DATA = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(HERE / "questions.jsonl")}}, "test_split": "test",
        "metadata": {"version": 1}}
CHOICE = {"task": "hearth_choice", **DATA, "output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}",
          "doc_to_target": "{{answer}}", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]}
GENERATE = {"task": "hearth_generate", **DATA, "output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{choices[answer]}}",
            "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": False, "temperature": 0.0},
            "metric_list": [{"metric": "exact_match"}]}
