"""Gradio front ends of the workbench: pages over the library, objects on the server, ids in the browser."""
