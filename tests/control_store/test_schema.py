import inspect

from ray.control_store import schema


def test_every_key_is_in_the_table_of_the_module() -> None:
    keys = [
        value
        for name, value in inspect.getmembers(schema)
        if isinstance(value, str) and value.startswith("ray:")
    ]
    assert len(keys) >= 5
    for key in [*keys, "ray:errors:<job>"]:
        assert f"`{key}`" in (schema.__doc__ or "")


def test_errors_of_a_job_lie_on_one_server_and_all_servers_get_some() -> None:
    assert {schema.errors_server(job, 1) for job in range(10)} == {schema.PRIMARY}
    assert {schema.errors_server(job, 4) for job in range(10)} == {1, 2, 3}


def test_entry_ids_carry_the_journals_sequence() -> None:
    for sequence in (1, 2**53, 2**63):
        assert schema.sequence_of(schema.entry_id(sequence).encode()) == sequence
