"""Which claims of ModelYard hold, measured side by side with its peers?"""
